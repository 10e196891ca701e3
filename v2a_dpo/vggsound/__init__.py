"""VGGSound: its published lists, the splits made from them, and the clips found in folders and tar archives."""
