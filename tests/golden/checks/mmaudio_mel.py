"""Golden checks of the log-mel front ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tests.golden.format import Case, Result, UnknownCaseError, compare, equal
from v2a_dpo.media.mel import LogMel, MelSettings


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    front_ends = {name: LogMel(settings_of(facts)) for name, facts in case.facts["settings"].items()}

    def output(name: str) -> Tensor:
        variant, _, kind = name.partition(".")
        front_end = front_ends[variant]
        if kind == "mel":
            return front_end(case.input(f"{variant}.waveform"))
        if kind == "window_first_half":
            return front_end.window[: front_end.settings.n_fft // 2 + 1]
        if kind in ("mel_basis.values", "mel_basis.indices"):
            rows, columns = case.outputs[f"{variant}.mel_basis.indices"].long()
            if kind == "mel_basis.values":
                return front_end.basis[rows, columns]
            # A weight at a band's very edge may be rounded to zero on one side only.
            outside = front_end.basis.clone()
            outside[rows, columns] = 0.0
            missing = outside > 1e-7
            return torch.cat([torch.stack([rows, columns]), missing.nonzero().T], dim=1)
        raise UnknownCaseError(name)

    yield from case.compare_outputs(output)
    for name, facts in case.facts["settings"].items():
        settings = front_ends[name].settings
        if "mel_basis_shape" in facts:
            yield equal(
                f"{case.stem}: {name} basis shape", list(front_ends[name].basis.shape), facts["mel_basis_shape"]
            )
        if "frames_for_8s" in facts:
            frames = settings.num_frames(facts["frames_for_8s"]["samples"])
            yield equal(f"{case.stem}: {name} frames of 8 s", frames, facts["frames_for_8s"]["frames"])
        if "silence_value" in facts:
            silence = front_ends[name](torch.zeros(1, 4 * settings.n_fft))
            golden = torch.full_like(silence, facts["silence_value"])
            yield compare(f"{case.stem}: {name} silence", silence, golden, tolerance=1e-6)


def settings_of(facts: dict) -> MelSettings:
    """The front end that a json describes."""
    if facts.get("win", facts["n_fft"]) != facts["n_fft"] or facts["log"] not in ("log10", "natural log"):
        raise UnknownCaseError(f"window {facts.get('win')}, logarithm {facts['log']!r}")
    return MelSettings(
        sample_rate=facts["sampling_rate"],
        n_fft=facts["n_fft"],
        hop=facts["hop"],
        num_mels=facts["n_mels"],
        fmin=facts["fmin"],
        fmax=facts["fmax"],
        log="10" if facts["log"] == "log10" else "e",
    )
