"""The report's notes and settings, out of the evaluation's summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from v2a_dpo.evaluation.sampling import TITLES, shown_setting


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the numbers: what is small, what stands in for what, what is simulated or left
    out."""
    said = []
    if summary["profile"] == "tiny":
        said.append(
            "Tiny profile: a small generator on a procedural world. The numbers show that the loop works, not how a "
            "full-size model sounds."
        )
    if summary["scorers"] == "tiny":
        said.append("Small frozen scorers stand in for PaSST, PANNs, ImageBind, CLAP and Synchformer.")
    if summary["rater"] == "simulated rater":
        said.append("The rater is simulated: it knows the true events. No person rated these clips.")
    if summary["clips"] < summary["expected_clips"]:
        lacks = ", ".join(f"{name} {count}" for name, count in summary["missing"].items() if count)
        said.append(f"{summary['expected_clips'] - summary['clips']} test clips were left out; missing: {lacks}.")
    said += [
        f"The {name} model made no usable sound for {len(clip_ids)} clips for which another one did; no mean has them."
        for name, clip_ids in summary["failed"].items()
        if clip_ids
    ]
    said += [f"The systems differ in {TITLES[key]}: {text}." for key, text in summary["differences"].items()]
    return said


def settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings behind the numbers, as (name, value)."""
    generator = summary["generator"]
    name = " ".join(dict.fromkeys([generator["family"], generator["variant"]]))
    return [
        ("Profile", summary["profile"]),
        ("Generator", f"{name}, {generator['precision']}"),
        ("Seed", shown_setting(summary["sampling"], "seed")),
        ("Clip length", f"{summary['duration_s']:g} s"),
        ("Euler steps", shown_setting(summary["sampling"], "steps")),
        ("Guidance scale", shown_setting(summary["sampling"], "guidance_scale")),
        ("Text prompts", shown_setting(summary["sampling"], "use_text")),
        ("Clips evaluated", f"{summary['clips']} of {summary['expected_clips']}"),
        ("Bootstrap resamples", f"{summary['resamples']}, for FD {summary['fd_resamples']}"),
        ("Confidence", f"{100 * summary['confidence']:g}%"),
        ("Scorers", summary["scorers"]),
        ("Rater", summary["rater"] or "none"),
    ]
