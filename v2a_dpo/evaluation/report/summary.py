"""The report's notes and settings, out of the evaluation's summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the numbers: what is small, what stands in for what, what is simulated or left out."""
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
    return said


def settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings behind the numbers, as (name, value)."""
    generator = summary["generator"]
    name = " ".join(dict.fromkeys([generator["family"], generator["variant"]]))
    return [
        ("Profile", summary["profile"]),
        ("Generator", f"{name}, {generator['precision']}"),
        ("Seed", str(summary["seed"])),
        ("Clip length", f"{summary['duration_s']:g} s"),
        ("Euler steps", str(summary["steps"])),
        ("Guidance scale", f"{summary['guidance_scale']:g}"),
        ("Clips evaluated", f"{summary['clips']} of {summary['expected_clips']}"),
        ("Bootstrap resamples", f"{summary['resamples']}, for FD {summary['fd_resamples']}"),
        ("Confidence", f"{100 * summary['confidence']:g}%"),
        ("Scorers", summary["scorers"]),
        ("Rater", summary["rater"] or "none"),
    ]
