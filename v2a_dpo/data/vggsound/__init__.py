"""VGGSound: its lists, its archives, and the paper's splits of it."""
