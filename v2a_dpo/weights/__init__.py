"""Official weights: where they come from, under which licence, and how they get into `WEIGHTS_DIR`."""
