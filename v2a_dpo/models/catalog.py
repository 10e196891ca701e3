"""From a model folder to its generator, by the family named in `config.json`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from v2a_dpo.artifacts.checksums import has_checksums, verify_checksums
from v2a_dpo.artifacts.location import exists, join, read_bytes
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import VideoToAudioModel

if TYPE_CHECKING:
    from v2a_dpo.models.mmaudio.cost import MMAudioCost

#: Family -> path of the module whose `load(folder, device)` returns the generator; only the family in use is imported.
FAMILIES = {"mmaudio": "v2a_dpo.models.mmaudio.checkpoint", "tiny": "v2a_dpo.tiny.generator"}

_MMAUDIO = "v2a_dpo.models.mmaudio"
#: Family -> code roots of its velocity. Training depends on these and not on the frozen parts.
_VELOCITY = dict.fromkeys(
    FAMILIES,
    (
        f"{_MMAUDIO}.model:MMAudioModel.embed",
        f"{_MMAUDIO}.model:MMAudioModel.velocity",
        f"{_MMAUDIO}.network:MMAudioNetwork",
    ),
)


def velocity_code(folder: str | Path) -> tuple[str, ...]:
    """The code roots of the velocity of the generator in `folder`, local or remote, without loading it.

    Raises UserError when the folder holds no model of a known family.
    """
    return _VELOCITY[_family(folder)]


def load_generator(folder: str | Path, *, device: str = "auto") -> VideoToAudioModel:
    """The generator saved in the local model `folder`, on `device`, in evaluation mode and without gradients.

    `auto` takes the first GPU if there is one. Raises UserError when the folder holds no model of a known family, or
    when a file differs from the checksums recorded in it.
    """
    module = import_module(FAMILIES[_family(folder)])
    if has_checksums(Path(folder)):
        verify_checksums(Path(folder))
    model: VideoToAudioModel = module.load(Path(folder), choose_device(device))
    model.network.eval().requires_grad_(False)
    return model


def cost_of(variant: str, *, duration_s: float) -> MMAudioCost:
    """The costs of an official generator for clips of `duration_s` seconds, without loading weights.

    Raises UserError that lists the variants for an unknown one.
    """
    from v2a_dpo.models.mmaudio.config import VARIANTS
    from v2a_dpo.models.mmaudio.cost import MMAudioCost

    if variant not in VARIANTS:
        remedy = f"Use one of {', '.join(VARIANTS)}."
        raise UserError(f"Unknown model {variant!r}.", where="NAME", remedy=remedy)
    return MMAudioCost(VARIANTS[variant], "16k" if variant.endswith("16k") else "44k", duration_s=duration_s)


def _family(folder: str | Path) -> str:
    config = join(folder, "config.json")
    if not exists(config):
        remedy = "Run the stage that makes it, or name another folder."
        raise UserError("This folder holds no model.", where=config, remedy=remedy)
    try:
        family = json.loads(read_bytes(config))["family"]
        return next(name for name in FAMILIES if name == family)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        remedy = f"Its config.json must name a `family` among {', '.join(FAMILIES)}."
        raise UserError(f"This is not a generator's folder ({error!r}).", where=config, remedy=remedy) from error


def choose_device(name: str) -> torch.device:
    """The torch device called `name`; `auto` is the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"There is no device called {name!r}.", where="generator.device", remedy="Use cpu, cuda or auto."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("No CUDA device is available.", where="generator.device", remedy="Use `device: auto` or `cpu`.")
    return device
