"""From a model folder to its generator, by the family named in `config.json`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import torch

from v2a_dpo.artifacts.checksums import has_checksums, verify_checksums
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import VideoToAudioModel

#: Family -> module whose `load(folder)` returns the generator. Named by path so that a family is imported only when used.
FAMILIES = {"mmaudio": "v2a_dpo.models.mmaudio.checkpoint", "tiny": "v2a_dpo.tiny.generator"}


def load_generator(folder: str | Path, *, device: str = "auto") -> VideoToAudioModel:
    """The generator saved in the local model `folder`, on `device`, in evaluation mode and without gradients.

    `auto` takes the first GPU if there is one. Raises UserError when the folder holds no model of a known family, or when
    checksums were recorded in it and a file is not what it was.
    """
    config = Path(folder) / "config.json"
    try:
        family = json.loads(config.read_text(encoding="utf-8"))["family"]
        module = import_module(FAMILIES[family])
    except FileNotFoundError as error:
        remedy = "Run the stage that makes it, or name another folder."
        raise UserError("This folder holds no model.", where=str(config), remedy=remedy) from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        remedy = f"Its config.json must name a `family` among {', '.join(FAMILIES)}."
        raise UserError(f"This is not a generator's folder ({error!r}).", where=str(config), remedy=remedy) from error
    if has_checksums(Path(folder)):
        verify_checksums(Path(folder))
    model: VideoToAudioModel = module.load(Path(folder))
    model.network.eval().requires_grad_(False)
    return model.to(choose_device(device))


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
