"""The files of one alignment: identity, log, checkpoints, their mirror on S3, curves."""
