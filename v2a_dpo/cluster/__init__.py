"""Clients of Kubeflow Pipelines and Kubernetes."""
