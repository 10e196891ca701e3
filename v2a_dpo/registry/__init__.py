"""The model registry: versions with their evidence, release gates, and the champion and its history."""
