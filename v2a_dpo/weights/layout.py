"""The keys and shapes of the official files, and how weights differ from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pkgutil import resolve_name

from torch import Tensor

from v2a_dpo.weights.catalog import OfficialFile

TensorLayout = Mapping[str, tuple[int, ...]]


def layouts_of(file: OfficialFile) -> Sequence[TensorLayout]:
    """The accepted layouts, key -> shape, of an official file; more than one where several spellings are in use.

    Those of the project's own networks come from the networks, named by path so that no import points upwards.
    """
    if file.layout is not None:
        layouts: Sequence[TensorLayout] = resolve_name(file.layout)(file.variant)
        return layouts
    text = resources.files(__package__).joinpath("layouts", f"{file.name}.json").read_text(encoding="utf-8")
    return [{key: tuple(shape) for key, shape in json.loads(text).items()}]


def shapes_of(state: Mapping[str, Tensor]) -> TensorLayout:
    """The layout of weights."""
    return {key: tuple(value.shape) for key, value in state.items()}


def differences(layout: TensorLayout, expected: TensorLayout) -> list[str]:
    """One sentence per kind of difference, with the number of keys and the first of them; empty when there is none."""
    sentences = []
    missing = [key for key in expected if key not in layout]
    if missing:
        sentences.append(f"{len(missing)} keys are missing (first: {missing[0]})")
    strange = [key for key in layout if key not in expected]
    if strange:
        sentences.append(f"{len(strange)} keys do not belong there (first: {strange[0]})")
    reshaped = [key for key, shape in expected.items() if key in layout and layout[key] != shape]
    if reshaped:
        key = reshaped[0]
        shapes = f"{list(layout[key])} instead of {list(expected[key])}"
        sentences.append(f"{len(reshaped)} tensors have another shape (first: {key}, {shapes})")
    return sentences


def nearest_differences(layout: TensorLayout, file: OfficialFile) -> list[str]:
    """The differences from the accepted layout of `file` with the fewest missing, unknown and reshaped keys."""

    def count(expected: TensorLayout) -> int:
        return sum(layout.get(key) != expected.get(key) for key in layout.keys() | expected.keys())

    return differences(layout, min(layouts_of(file), key=count))
