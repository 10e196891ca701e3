"""MLflow: connections, runs and their content, and live training curves."""
