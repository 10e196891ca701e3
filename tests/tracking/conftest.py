from tests.finished_loop import finished_loop, loop, mlflow_uri

__all__ = ["finished_loop", "loop", "mlflow_uri"]
