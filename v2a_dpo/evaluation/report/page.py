"""The page: sections put into the template, with style and script inlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from v2a_dpo.evaluation.report.gallery import GalleryClip
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
    """All that the report shows. `findings` are (verdict, metrics' titles); `notes` are caveats shown at the top."""

    title: str
    subtitle: str
    notes: Sequence[str]
    findings: Sequence[tuple[str, Sequence[str]]]
    sections: Sequence[ReportSection]
    gallery: Sequence[GalleryClip]
    gallery_explanation: str
    settings: Sequence[tuple[str, str]]


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
