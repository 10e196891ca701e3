from tests.finished_loop import finished_loop, loop, metrics_of, mlflow_uri

__all__ = ["finished_loop", "loop", "metrics_of", "mlflow_uri"]
