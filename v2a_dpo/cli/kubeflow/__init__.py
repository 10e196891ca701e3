"""The commands that compile, start and watch runs on Kubeflow."""
