"""Official files of the catalog's form, small enough for tests: two networks, a vocoder, a training checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_dpo.weights.catalog import OfficialFile

SIZES = {"small": 4, "large": 6}


def network(variant: str) -> nn.Module:
    return nn.Sequential(nn.Linear(3, SIZES[variant]), nn.LayerNorm(SIZES[variant]))


def network_layouts(variant: str) -> list[dict[str, tuple[int, ...]]]:
    return [{key: tuple(value.shape) for key, value in network(variant).state_dict().items()}]


def vocoder_layouts(variant: str) -> list[dict[str, tuple[int, ...]]]:
    split: dict[str, tuple[int, ...]] = {"pre.weight_g": (2, 1, 1), "pre.weight_v": (2, 3, 5), "pre.bias": (2,)}
    return [split, {"pre.weight": (2, 3, 5), "pre.bias": (2,)}]


def model_config(variant: str) -> dict[str, Any]:
    return {"family": "small", "size": SIZES[variant]}


def state_of(variant: str, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = network_layouts(variant)[0]
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


_HERE = "tests.weights.small_files:"
SMALL = OfficialFile(
    name="net_small",
    file_name="net_small.pth",
    url="http://127.0.0.1:9/net_small.pth",
    role="a network",
    licence="CC BY-NC 4.0",
    layout=_HERE + "network_layouts",
    variant="small",
    dropped=frozenset({"table"}),
    model_config=_HERE + "model_config",
)
LARGE = replace(SMALL, name="net_large", file_name="net_large.pth", variant="large", model_config=None)
VOCODER = OfficialFile(
    name="vocoder",
    file_name="generator.pt",
    url="http://127.0.0.1:9/generator.pt",
    role="a vocoder",
    licence="MIT",
    layout=_HERE + "vocoder_layouts",
    containers=("generator",),
)
TRAINED = OfficialFile(
    name="trained",
    file_name="epoch_15.pt",
    url="http://127.0.0.1:9/epoch_15.pt",
    role="a training checkpoint",
    licence="MIT",
    layout=_HERE + "network_layouts",
    variant="small",
    containers=("state_dict",),
    prefix="module.",
    dropped=frozenset({"positions"}),
)
