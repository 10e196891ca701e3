"""The generation engine: conditions of clips in, N candidates a clip out, at the speed of the hardware."""
