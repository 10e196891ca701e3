"""Reading a released checkpoint without running any code that it may carry."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from v2a_dpo.errors import UserError
from v2a_dpo.weights.catalog import OfficialFile

#: Number types that training checkpoints hold beside their tensors; none of them can run code.
_NUMBERS: list[Any] = [
    (np.float64().__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
]

#: Endings of the two keys of a weight-normalised weight: torch's newer spelling -> the released files'.
_WEIGHT_NORM = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}


class WrongFileError(UserError):
    """The file is not the official one: its checksum, its form, or its keys differ."""


class UnreadableFileError(WrongFileError):
    """The file is damaged, not a checkpoint, or holds more than tensors."""


def read_checkpoint(path: Path) -> Any:
    """The content of a `torch.save` or safetensors file, tensors mapped from disk where the format allows it.

    Only tensors, containers and numbers are read; raises UnreadableFileError for anything else and for a damaged file.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS):
            # Files of torch before 1.6 are no archives and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        remedy = "Take the file from its official source; convert other files to tensors where they were made."
        raise UnreadableFileError(
            f"This file holds more than tensors, or is damaged, and is not read: {_refusal(str(error))}.",
            where=str(path),
            remedy=remedy,
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        remedy = "It is truncated or not a checkpoint: fetch it again."
        raise UnreadableFileError(
            f"This file cannot be read as a checkpoint: {error}", where=str(path), remedy=remedy
        ) from error


def _refusal(message: str) -> str:
    """The refused part of the file in torch's message, without torch's advice to trust the file."""
    named = re.search(r"GLOBAL \S+|Unsupported [^.\n]+", message)
    return named[0] if named else message.splitlines()[0]


def state_dict(content: Any, file: OfficialFile, *, where: str) -> dict[str, Tensor]:
    """The weights inside the `content` of an official file, by the names that the networks use.

    Out of their container, without prefix, without dropped keys, in float32. Raises WrongFileError that names an entry
    which is not a tensor.
    """
    state = content
    for container in file.containers:
        if isinstance(state, Mapping) and isinstance(state.get(container), Mapping):
            state = state[container]
    remedy = f"It should be {file.file_name}."
    if not isinstance(state, Mapping) or not state:
        raise WrongFileError("This file holds no weights by name.", where=where, remedy=remedy)
    others = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        what = f"Not all entries are tensors: {others[0]!r} is of type {type(state[others[0]]).__name__}."
        raise WrongFileError(what, where=where, remedy=remedy)
    named = {_official_key(key, file.prefix): value.detach() for key, value in state.items()}
    kept = {key: value for key, value in named.items() if key not in file.dropped}
    return {key: value.float() if value.is_floating_point() else value for key, value in kept.items()}


def _official_key(key: str, prefix: str) -> str:
    for new, official in _WEIGHT_NORM.items():
        if key.endswith(new):
            return key.removeprefix(prefix).removesuffix(new) + official
    return key.removeprefix(prefix)
