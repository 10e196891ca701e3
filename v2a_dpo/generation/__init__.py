"""The generation engine: conditions of clips in, N candidates per clip out, at the speed of the hardware."""
