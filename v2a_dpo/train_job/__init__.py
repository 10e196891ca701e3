"""Training jobs on a cluster: Kubeflow Trainer's TrainJob, made, followed to its end, and cleaned up."""
