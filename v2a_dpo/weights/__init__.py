"""Official weights: their sources, licences and import into `WEIGHTS_DIR`."""
