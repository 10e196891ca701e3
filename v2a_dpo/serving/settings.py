"""What a served model is told when it is packaged; a server may be told otherwise when it starts."""

from __future__ import annotations

from pydantic import Field

from v2a_dpo.config import Count, Params, Positive, ServeConfig


class ServingSettings(ServeConfig):
    """Defaults of a request and its limits, as they stand in a packaged model's `model_config`."""

    device: str = "auto"
    precision: str = "float32"
    steps: Count = 25
    guidance_scale: Positive = 4.5
    duration_s: Positive = Field(8.0, description="seconds of sound where a request names none")

    @staticmethod
    def of(params: Params) -> ServingSettings:
        """The settings that `params` ask for: what the model was made with, and the limits of the section `serve`."""
        return ServingSettings(
            device=params.generator.device,
            precision=params.generator.precision,
            steps=params.generate.steps,
            guidance_scale=params.generate.guidance_scale,
            duration_s=min(params.prepare.duration_s, params.serve.max_duration_s),
            **params.serve.model_dump(),
        )

    @property
    def max_upload_bytes(self) -> int:
        """The largest video in bytes."""
        return int(self.max_upload_mib * (1 << 20))

    @property
    def max_body_bytes(self) -> int:
        """The largest HTTP request in bytes: a full batch of the largest videos in base64, and words around them."""
        return self.max_videos * (self.max_upload_bytes * 4 // 3 + (1 << 16))
