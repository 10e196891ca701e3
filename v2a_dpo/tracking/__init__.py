"""MLflow: connections, runs, what they say about a loop, and live training curves."""
