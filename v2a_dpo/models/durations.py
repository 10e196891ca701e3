"""Checks that data sets fit the duration of clips: the shapes of a generator's tensors depend on it."""

from __future__ import annotations

from collections.abc import Mapping

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import VideoToAudioModel


def check_conditions(conditions: Dataset, model: VideoToAudioModel, duration_s: float) -> None:
    """Raises UserError unless `conditions` are those of clips of `duration_s` seconds for `model`."""
    empty = model.empty_conditions(duration_s).tensors
    _check_shapes(conditions, {name: tuple(row.shape[1:]) for name, row in empty.items()}, duration_s)


def check_latents(candidates: Dataset, model: VideoToAudioModel, duration_s: float) -> None:
    """Raises UserError unless `candidates` have the latents of clips of `duration_s` seconds for `model`."""
    _check_shapes(candidates, {"latent": model.latent_shape(duration_s)}, duration_s)


def _check_shapes(source: Dataset, needed: Mapping[str, tuple[int, ...]], duration_s: float) -> None:
    shapes = source.tensor_shapes()
    for name, shape in needed.items():
        if shapes.get(name) != shape:
            raise UserError(
                f"These {source.manifest.schema_name} are not those of clips of {duration_s:g} s for this generator: "
                f"{name} has the shape {shapes.get(name)}, and {shape} is needed.",
                where=source.folder,
                remedy="Set prepare.duration_s to what they were made with, or make them anew.",
            )
