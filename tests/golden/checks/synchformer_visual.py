"""Golden checks of Synchformer's visual branch: layout, stored and filled weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tests.golden.format import (
    Case,
    Result,
    UnknownCaseError,
    check_filling,
    check_layout,
    fill_input,
    filled_state,
)
from v2a_dpo.models.synchformer import VISUAL_PREFIX, SynchformerVisual, SynchformerVisualConfig

_CONFIG_KEYS = {
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "num_heads",
    "patch_size": "patch_size",
    "img_size": "image_size",
    "frames": "segment_frames",
}


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    if "outputs" in case.facts:
        yield from check_features(case)
        return
    for name, facts in case.facts.items():
        with torch.device("meta"):
            network = SynchformerVisual(SynchformerVisualConfig())
        yield from check_layout(f"{case.stem}: {name}", network, facts, prefix=VISUAL_PREFIX)


def check_features(case: Case) -> Iterator[Result]:
    """All outputs of one network."""
    given = case.facts.get("config", {})
    if given.keys() - _CONFIG_KEYS.keys():
        raise UnknownCaseError(f"configuration keys {sorted(given.keys() - _CONFIG_KEYS.keys())}")
    config = SynchformerVisualConfig(**{_CONFIG_KEYS[key]: value for key, value in given.items()})
    with torch.device("meta"):
        network = SynchformerVisual(config)
    state = case.group("weights")
    if not state:
        state = filled_state(network, case.fill_seed, prefix=VISUAL_PREFIX)
        yield from check_filling(case.stem, state, case.facts["weights"].get("check", {}))
    network.load_checkpoint(state)
    network.eval()
    video = video_of(case)

    def output(name: str) -> Tensor:
        # Stored videos come as segments [B, S, T, 3, H, W], filled ones whole [B, T, 3, H, W].
        if name == "features":
            return network(video) if video.dim() == 6 else network.video_features(video)
        segments = (video if video.dim() == 6 else network.segments(video)).flatten(0, 1)
        patches = network.patch_embed_3d(segments.transpose(1, 2))
        if name == "patch_embed_3d":
            return patches
        if name == "tokens":
            return network.tokens(segments)
        if match := re.fullmatch(r"block(\d+)", name):
            tokens = torch.cat([network.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
            return network.blocks[int(match[1])](tokens, frames=config.segment_tokens)
        raise UnknownCaseError(name)

    yield from case.compare_outputs(output)


def video_of(case: Case) -> Tensor:
    """The stored video, or the one that the json's sentence describes by name, shape and scale."""
    if "video" in case.inputs:
        return case.inputs["video"]
    described = re.search(r"rule\(([\w.]+),\s*\[([\d,\s]+)\]\)\s*scale\s*([\d.]+\d)", str(case.facts.get("inputs")))
    if not described:
        raise UnknownCaseError("needs inputs.video, which is neither stored nor described")
    shape = tuple(map(int, described[2].split(",")))
    return fill_input(described[1], shape, case.fill_seed, scale=float(described[3]))
