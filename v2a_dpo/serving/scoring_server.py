"""MLflow's scoring server for a packaged model, behind limits of its own."""

from __future__ import annotations

import os
from pathlib import Path

from v2a_dpo.config import ServeConfig
from v2a_dpo.errors import UserError
from v2a_dpo.serving.http_limits import LimitedRequests
from v2a_dpo.serving.settings import ServingSettings


def serve_packaged(packaged: Path, limits: ServeConfig, *, host: str, port: int, timeout_s: int) -> None:
    """Answers requests to `/invocations` until it is stopped, within `limits` instead of those that were packaged.

    Raises UserError when the model is damaged or cannot be loaded.
    """
    import uvicorn
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = str(timeout_s)
    try:
        model = pyfunc.load_model(str(packaged), model_config=limits.model_dump(mode="json"))
    except MlflowException as error:
        remedy = "Package the model again, or choose another version."
        raise UserError(f"The model cannot be served. {error.message}", where=str(packaged), remedy=remedy) from error
    settings = ServingSettings.model_validate(model.model_config)
    app = LimitedRequests(scoring_server.init(model), max_body_bytes=settings.max_body_bytes)
    uvicorn.run(app, host=host, port=port, log_level="info")
