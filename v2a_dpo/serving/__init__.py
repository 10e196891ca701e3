"""Use of a model: MLflow's form of it, an HTTP server, and a demo page."""
