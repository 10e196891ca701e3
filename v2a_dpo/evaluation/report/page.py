"""The page: notes, settings and sections put into the template, with style and script inlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from v2a_dpo.artifacts.schema import SIMULATED_RATER
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.evaluation.report.gallery import GalleryClip
from v2a_dpo.evaluation.sampling import TITLES, shown_setting
from v2a_dpo.evaluation.tables import system_title


@dataclass(frozen=True)
class ReportSection:
    """A titled part of the report: an explaining sentence, and blocks of trusted HTML made by this package."""

    anchor: str
    title: str
    explanation: str
    blocks: Sequence[str]
    wide: bool = False


@dataclass(frozen=True)
class Page:
    """All that the report shows; what is empty is left out. A notebook shows a page in a frame of its own.

    `findings` are (verdict, metrics' titles); `notes` are caveats shown at the top.
    """

    title: str
    subtitle: str = ""
    notes: Sequence[str] = ()
    findings: Sequence[tuple[str, Sequence[str]]] = ()
    sections: Sequence[ReportSection] = ()
    gallery: Sequence[GalleryClip] = ()
    gallery_explanation: str = ""
    settings: Sequence[tuple[str, str]] = ()

    def _repr_html_(self) -> str:
        """The page in a frame as high as its content: its style and script stay apart from the notebook's."""
        fit = "this.style.height = this.contentDocument.documentElement.scrollHeight + 'px'"
        return f'<iframe srcdoc="{escape(render(self))}" onload="{fit}" style="width: 100%; border: 0"></iframe>'


def render(page: Page) -> str:
    """The report as one HTML document that refers to nothing outside itself."""
    import jinja2

    folder = files("v2a_dpo.evaluation.report")
    template, style, script = (folder.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["title_of"] = system_title
    return environment.from_string(template).render(page=page, style=style, script=script)


def notes(summary: Mapping[str, Any]) -> list[str]:
    """The caveats before the numbers: what is small, what stands in for what, what is simulated or left out."""
    caveats = []
    if summary["profile"] == "tiny":
        caveats.append(
            "Tiny profile: a small generator on a procedural world. The numbers show that the loop works, not how a "
            "full-size model sounds."
        )
    if summary["scorers"] == "tiny":
        caveats.append("Small frozen scorers stand in for PaSST, PANNs, ImageBind, CLAP and Synchformer.")
    if summary["rater"] == SIMULATED_RATER:
        caveats.append("The rater is simulated: it is given the true events. No person rated these clips.")
    if summary["clips"] < summary["expected_clips"]:
        missing = ", ".join(f"{name} {count}" for name, count in summary["missing"].items() if count)
        caveats.append(f"{summary['expected_clips'] - summary['clips']} test clips were left out; missing: {missing}.")
    caveats += [
        f"The {name} model made no usable sound for {len(clip_ids)} clips for which another one did; no mean has them."
        for name, clip_ids in summary["failed"].items()
        if clip_ids
    ]
    caveats += [f"The systems differ in {TITLES[key]}: {text}." for key, text in summary["differences"].items()]
    return caveats


def settings(comparison: Comparison, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings behind the numbers, as (name, value)."""
    bootstrap = comparison.bootstrap
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
        ("Bootstrap resamples", f"{bootstrap.resamples}, for FD {bootstrap.fd_resamples}"),
        ("Confidence", f"{100 * bootstrap.confidence:g}%"),
        ("Scorers", summary["scorers"]),
        ("Rater", summary["rater"] or "none"),
    ]
