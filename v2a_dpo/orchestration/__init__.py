"""What runs stages: the loop in one process, checks before a run, fan-out over shards, sweeps, summaries."""
