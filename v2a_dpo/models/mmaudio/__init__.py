"""MMAudio: a multimodal flow-matching transformer for video-to-audio (Cheng et al., CVPR 2025, arXiv 2412.15322)."""
