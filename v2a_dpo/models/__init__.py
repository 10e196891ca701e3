"""The video-to-audio generators, behind one interface (`base.VideoToAudioModel`)."""
