"""Data sets as folders of Parquet shards: schemas, atomic writes, fingerprints, resume; local paths and S3 alike."""
