"""Whether weights have the keys and shapes of an official file, and what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module, resources

from torch import Tensor

from v2a_dpo.weights.catalog import OfficialFile

TensorLayout = Mapping[str, tuple[int, ...]]


def layouts_of(file: OfficialFile) -> Sequence[TensorLayout]:
    """The accepted layouts, key -> shape, of an official file; more than one where several spellings are in use.

    Those of the project's own networks come from the networks, named by path so that no floor imports upwards.
    """
    if file.layout is not None:
        module, function = file.layout.split(":")
        found: Sequence[TensorLayout] = getattr(import_module(module), function)(file.variant)
        return found
    text = resources.files(__package__).joinpath("layouts", f"{file.name}.json").read_text(encoding="utf-8")
    return [{key: tuple(shape) for key, shape in json.loads(text).items()}]


def shapes_of(state: Mapping[str, Tensor]) -> TensorLayout:
    """The layout of weights."""
    return {key: tuple(value.shape) for key, value in state.items()}


def differences(found: TensorLayout, expected: TensorLayout) -> list[str]:
    """One sentence a kind of difference, each with how many keys it concerns and the first of them; empty when there is
    none."""
    sentences = []
    missing = [key for key in expected if key not in found]
    if missing:
        sentences.append(f"{len(missing)} keys are missing (first: {missing[0]})")
    strange = [key for key in found if key not in expected]
    if strange:
        sentences.append(f"{len(strange)} keys do not belong there (first: {strange[0]})")
    reshaped = [key for key, shape in expected.items() if key in found and found[key] != shape]
    if reshaped:
        key = reshaped[0]
        shapes = f"{list(found[key])} instead of {list(expected[key])}"
        sentences.append(f"{len(reshaped)} tensors have another shape (first: {key}, {shapes})")
    return sentences


def differing_keys(found: TensorLayout, expected: TensorLayout) -> int:
    """How many keys are missing, do not belong, or have another shape."""
    return sum(found.get(key) != expected.get(key) for key in found.keys() | expected.keys())


def nearest_differences(found: TensorLayout, file: OfficialFile) -> list[str]:
    """The differences from that layout of `file` which is nearest."""
    return differences(found, min(layouts_of(file), key=lambda layout: differing_keys(found, layout)))
