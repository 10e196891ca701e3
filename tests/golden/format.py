"""Reading golden folders: cases, the weight-filling rule, and the comparison with its tolerance."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

#: A difference may reach this share of the output's largest value whatever the stated tolerance: an exact reordering
#: of sums, or fused attention, changes the last bits.
RELATIVE_TOLERANCE = 2e-5


class UnknownCaseError(Exception):
    """The folder asks for something that the checker does not know."""


@dataclass(frozen=True)
class Result:
    """One compared output: the largest difference and what it may be."""

    name: str
    difference: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the difference is inside the tolerance; NaN is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Case:
    """One json file of a golden folder with the tensors beside it."""

    path: Path
    facts: dict[str, Any] = field(repr=False)

    @staticmethod
    def load(path: Path) -> Case:
        """The case of a json file."""
        return Case(path, json.loads(path.read_text(encoding="utf-8")))

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All stored tensors; empty where the case has none."""
        file = self.path.with_suffix(".safetensors")
        return load_file(file) if file.exists() else {}

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The stored tensors whose names start with `prefix` and a dot, without it."""
        return {key[len(prefix) + 1 :]: value for key, value in self.tensors.items() if key.startswith(prefix + ".")}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Stored inputs by name."""
        return self.group("inputs")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Stored outputs by name."""
        return self.group("outputs")

    def input(self, name: str) -> Tensor:
        """A stored input; an unknown case if there is none."""
        if name not in self.inputs:
            raise UnknownCaseError(f"needs inputs.{name}, which is not stored")
        return self.inputs[name]

    @property
    def fill_seed(self) -> int:
        """The seed of the weight-filling rule."""
        return int(self.facts["weights"]["fill_seed"])

    def tolerance(self, name: str) -> float:
        """The tolerance stated for an output, 0 where none is."""
        stated = {**self.facts.get("outputs", {}), **self.facts.get("tolerances", {})}.get(name, {})
        return float(stated["tolerance"] if isinstance(stated, dict) and "tolerance" in stated else 0.0)

    def compare_outputs(
        self, compute: Callable[[str], Tensor], *, exact: frozenset[str] = frozenset(), prefix: str = ""
    ) -> Iterator[Result]:
        """One result for every output that the json or the tensors name; `compute` makes ours from the name.

        `prefix` leaves out the outputs whose names start otherwise, and is taken off before `compute` sees them.
        """
        named = sorted({*self.facts.get("outputs", {}), *self.outputs})
        for name in (name for name in named if name.startswith(prefix)):
            label = f"{self.stem}: {name}"
            if name not in self.outputs:
                yield failed(label, "no golden tensor is stored")
                continue
            try:
                ours = compute(name.removeprefix(prefix))
            except UnknownCaseError as error:
                yield failed(label, f"unknown case {error}")
                continue
            yield compare(label, ours, self.outputs[name], tolerance=self.tolerance(name), exact=name in exact)


def failed(name: str, note: str) -> Result:
    """A result that no tolerance lets pass."""
    return Result(name, math.inf, 0.0, note)


def equal(name: str, ours: object, golden: object) -> Result:
    """The result of comparing two values that must be the same."""
    same = ours == golden
    return Result(
        name, 0.0 if same else math.inf, 0.0, "exact" if same else f"ours {ours!r:.80}, golden {golden!r:.80}"
    )


def compare(name: str, ours: Tensor, golden: Tensor, *, tolerance: float, exact: bool = False) -> Result:
    """The largest difference between two tensors and what it may be."""
    if ours.shape != golden.shape:
        return failed(name, f"shape {list(ours.shape)}, golden {list(golden.shape)}")
    difference = (ours.double() - golden.double()).abs().max().item()
    allowed = 0.0 if exact else max(tolerance, RELATIVE_TOLERANCE * golden.double().abs().max().item())
    return Result(name, difference, allowed, "exact" if exact else "")


def uniform_by_name(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers in [-1, 1) of the given shape that depend on the name and the seed alone."""
    state = (zlib.crc32(name.encode("utf-8")) + 1_000_003 * seed) % 2**32
    return (np.random.RandomState(state).random_sample(math.prod(shape)) * 2 - 1).reshape(shape)


def fill_parameter(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The rule's weights of a parameter, float32."""
    u = uniform_by_name(key, shape, seed)
    last = key.rsplit(".", 1)[-1]
    if last in ("latent_std", "original0"):
        u = 1 + 0.3 * u
    elif len(shape) >= 2 and shape[0] != 1:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    elif len(shape) == 1 and last == "weight":
        u = 1 + 0.1 * u
    else:
        u = 0.1 * u
    return torch.from_numpy(np.asarray(u, dtype=np.float32))


def fill_input(name: str, shape: tuple[int, ...], seed: int, *, scale: float = 1.0) -> Tensor:
    """The rule's values of an input, float32."""
    values = uniform_by_name(name, shape, seed) * math.sqrt(3) * scale
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def filled_state(module: nn.Module, seed: int, *, prefix: str = "") -> dict[str, Tensor]:
    """The rule's state dict of a module: parameters filled by `prefix` + key, buffers as they were constructed."""
    parameters = dict(module.named_parameters())
    return {
        prefix + key: fill_parameter(prefix + key, tuple(value.shape), seed) if key in parameters else value.clone()
        for key, value in module.state_dict().items()
    }


def check_filling(label: str, state: Mapping[str, Tensor], checks: Mapping[str, Any]) -> Iterator[Result]:
    """Whether filled weights are the ones the golden numbers were made with: first numbers and sums."""
    for key, facts in checks.items():
        name = f"{label}: filled {key}"
        if key not in state:
            yield failed(name, "our network has no such weight")
            continue
        first = state[key].flatten()[:4].double()
        yield compare(name, first, torch.tensor(facts["first4"], dtype=torch.float64), tolerance=0.0)
        total = state[key].double().sum().reshape(1)
        golden_total = torch.tensor([facts["sum_float64"]], dtype=torch.float64)
        yield compare(f"{name}, sum", total, golden_total, tolerance=1e-9 * state[key].double().abs().sum().item())


def check_layout(label: str, module: nn.Module, facts: Mapping[str, Any], *, prefix: str = "") -> Iterator[Result]:
    """Whether a module (on the meta device) has exactly the official keys, shapes and number of parameters."""
    ours = {prefix + key: list(value.shape) for key, value in module.state_dict().items()}
    golden = {key: shape for key, shape, _ in facts["entries"]}
    differing = sorted(key for key in {*ours, *golden} if ours.get(key) != golden.get(key))
    yield equal(f"{label}: keys and shapes that differ", differing, [])
    if "params" in facts:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        yield equal(f"{label}: parameters", parameters, facts["params"])
