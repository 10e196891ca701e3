"""Video frames, audio files and mel spectrograms: what goes in and what comes out."""
