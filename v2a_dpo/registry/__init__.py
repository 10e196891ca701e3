"""The model registry: versions, who is champion and why, and what goes with a version."""
