"""MLflow runs this file to load a packaged generator. It is beside the weights and calls the installed v2a_dpo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.pyfunc import PythonModel, PythonModelContext

from v2a_dpo.errors import UserError
from v2a_dpo.serving.requests import RequestRefused
from v2a_dpo.serving.service import GenerationService


class Refusal(MlflowException):
    """The error sent to a client: our message and status, without the whole upload, which MLflow's server repeats."""

    def __init__(self, refused: RequestRefused) -> None:
        super().__init__(str(refused), error_code=BAD_REQUEST if refused.status < 500 else INTERNAL_ERROR)
        self._refused = refused

    def serialize_as_json(self) -> str:
        """The answer's body."""
        return json.dumps({"error_code": self.error_code, "message": str(self._refused)}, allow_nan=False)

    def get_http_status_code(self) -> int:
        """The answer's status."""
        return self._refused.status


class ServedGenerator(PythonModel):
    """Videos in, sound and videos with sound out; see docs/serving.md."""

    def load_context(self, context: PythonModelContext) -> None:
        """Compares the checksums and loads the generator; a damaged file is refused by name."""
        try:
            self._service = GenerationService.load(Path(context.artifacts["generator"]), context.model_config)
        except UserError as error:
            raise MlflowException(str(error)) from error

    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Columns `audio` (FLAC), `sample_rate`, `video` (mp4) and `seed`, one row per row of `model_input`."""
        try:
            if not isinstance(model_input, pandas.DataFrame):
                raise RequestRefused("Send the rows as `dataframe_records` or `dataframe_split`.")
            answers = self._service.answer(model_input.to_dict("records"))
        except RequestRefused as refused:
            raise Refusal(refused) from None
        return pandas.DataFrame(answers)


set_model(ServedGenerator())
