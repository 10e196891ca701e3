"""The settings of a served model: packaged with it, and replaceable when a server starts."""

from __future__ import annotations

from pydantic import Field

from v2a_dpo.config import Count, Params, Positive, ServeConfig


class ServingSettings(ServeConfig):
    """Defaults of a request and its limits, as in a packaged model's `model_config`."""

    device: str = "auto"
    precision: str = "float32"
    steps: Count = 25
    guidance_scale: Positive = 4.5
    duration_s: Positive = Field(8.0, description="seconds of sound when a request has no `seconds`")

    @staticmethod
    def of(params: Params) -> ServingSettings:
        """The settings in `params`: those of generation, and the limits of the section `serve`."""
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
        """The largest HTTP request in bytes: `max_videos` of the largest videos in base64, and 64 KiB for the rest."""
        return self.max_videos * (self.max_upload_bytes * 4 // 3 + (1 << 16))
