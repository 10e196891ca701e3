"""The model as people use it: a model that MLflow serves, and a page in the browser."""
