"""Preference alignment of flow-matching generators: losses, the order of visits, the trainer, its checkpoints."""
