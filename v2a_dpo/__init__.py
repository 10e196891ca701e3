"""Aligns video-to-audio generators with human preferences (V2A-DPO)."""
