"""Stage: the self-contained HTML report of a loop, out of its artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from v2a_dpo.alignment.run.log import LOG, read_log
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import join, write_atomically
from v2a_dpo.artifacts.schema import SCORES
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import EvaluationFolder, read_curve
from v2a_dpo.evaluation.inputs import System
from v2a_dpo.evaluation.metrics import SYSTEMS, Metric
from v2a_dpo.evaluation.report import sections
from v2a_dpo.evaluation.report.gallery import choose_clips, clip_figure
from v2a_dpo.evaluation.report.media import GalleryMedia
from v2a_dpo.evaluation.report.page import Page, ReportSection, render
from v2a_dpo.evaluation.report.summary import notes, settings
from v2a_dpo.evaluation.report.training import training_section
from v2a_dpo.evaluation.sampling import shown_setting
from v2a_dpo.evaluation.tables import shown_metrics
from v2a_dpo.progress import Progress, silent
from v2a_dpo.tiny.world import read_events

_SCORES = ("imagebind", "clap", "desync", "inception", "pesq")
_CLIP_NUMBERS = ("rater_quality", "kl_panns", "ib_score", "desync_s")


def report(
    params: Params,
    *,
    evaluation: str,
    clips: str,
    base: System,
    aligned: System,
    output: str,
    events: str | None = None,
    guidance: str | None = None,
    alignment: str | None = None,
    audioscore: str | None = None,
    pairs: str | None = None,
    progress: Progress = silent,
) -> str:
    """Writes the report to the HTML file `output` and says where it is.

    `base` and `aligned` are the (candidates, scores) folders that were evaluated; `events` adds event marks; the
    sections of `guidance`, `alignment`, `audioscore` and `pairs` are left out where these are not given. Videos and
    sounds are inside the file.
    """
    folder = EvaluationFolder(evaluation)
    comparison, summary = folder.comparison(), folder.summary()
    rater = summary["rater"] or "rater"
    event_times_s = {key: item.event_times_s for key, item in read_events(events).items()} if events else {}
    media = GalleryMedia(clips=clips, systems={"base": base, "aligned": aligned}, event_times_s=event_times_s)
    chosen, median, numbers = _choice(folder, count=params.report.gallery_clips)
    gallery = []
    for done, clip_id in enumerate(chosen):
        gallery.append(media.card(clip_id, _shown(numbers[clip_id], shown_metrics(comparison, rater=rater))))
        progress("Collecting clips", done + 1, len(chosen))
    figure = clip_figure(media.tracks(median), clip_id=median, event_times_s=media.events(median))
    parts: list[ReportSection] = [
        sections.result_section(comparison, rater=rater, differences=summary["differences"]),
        sections.figure_section(figure, clip_id=median, marks=events is not None),
    ]
    if guidance is not None and (curve := read_curve(guidance)):
        scales = {name: settings["guidance_scale"] for name, settings in summary["sampling"].items()}
        parts.append(sections.curve_section(curve, chosen=scales, rater=rater))
    parts.append(sections.scores_section(_scores(base, aligned), clips=comparison.clips))
    if alignment is not None:
        parts.append(training_section(read_log(join(alignment, LOG))))
    if audioscore is not None:
        parts.append(sections.audioscore_section(read_json(join(audioscore, "metrics.json"))))
    if pairs is not None:
        parts.append(sections.pairs_section(read_json(f"{pairs.rstrip('/')}-summary.json")))
    page = Page(
        title="Preference alignment of a video-to-audio model",
        subtitle=f"Base and aligned model on {comparison.clips} held-out clips, guidance scale "
        f"{shown_setting(summary['sampling'], 'guidance_scale')}"
        + ("" if "seed" in summary["differences"] else ", the same noise for both"),
        notes=notes(summary),
        findings=sections.findings(comparison, rater=rater),
        sections=parts,
        gallery=gallery,
        gallery_explanation="One silent video and three soundtracks a clip; switching goes on at the "
        "same moment. The clips "
        "are spread evenly over the ranking by change, from the best to the worst, so the worst case is among them.",
        settings=settings(summary),
    )
    content = render(page).encode()
    write_atomically(output, content)
    return f"{output}: {len(gallery)} clips, {len(content) / 1e6:.1f} MB"


def _choice(
    folder: EvaluationFolder, *, count: int
) -> tuple[list[str], str, dict[str, dict[str, dict[str, float | None]]]]:
    """The gallery's clips, the clip of median change, and all per-clip numbers (clip -> system -> number).

    Change is the rater's where it rated, else the fall of KL.
    """
    numbers: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in folder.per_clip().to_pylist():
        numbers.setdefault(row["clip_id"], {})[row["system"]] = row
    clip_ids = list(numbers)
    rated = all(numbers[clip_id][name]["rater_quality"] is not None for clip_id in clip_ids for name in SYSTEMS)
    key, sign = ("rater_quality", 1.0) if rated else ("kl_panns", -1.0)
    base, aligned = (
        np.array([numbers[clip_id][name][key] for clip_id in clip_ids], dtype=np.float64) for name in SYSTEMS
    )
    change = sign * (aligned - base)
    median = choose_clips(change, count=len(change))[len(change) // 2]
    return [clip_ids[row] for row in choose_clips(change, count=count)], clip_ids[median], numbers


def _shown(numbers: Mapping[str, Mapping[str, float | None]], metrics: Sequence[Metric]) -> list[tuple[str, str, str]]:
    shown = []
    for metric in metrics:
        values = [numbers[name].get(metric.key) for name in SYSTEMS] if metric.key in _CLIP_NUMBERS else []
        texts = [f"{value:.{metric.decimals}f}" for value in values if value is not None]
        if len(texts) == len(SYSTEMS):
            unit = f" {metric.unit}" if metric.unit else ""
            shown.append((f"{metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}", texts[0], texts[1]))
    return shown


def _scores(*systems: System) -> dict[str, dict[str, NDArray[np.floating]]]:
    scores = {}
    for name, (_, folder) in zip(SYSTEMS, systems, strict=True):
        table = Dataset.open(folder, SCORES).table(["sample", *_SCORES])
        first = table.filter(pc.equal(table["sample"], 0))
        scores[name] = {score: first[score].cast(pa.float64()).to_numpy() for score in _SCORES}
    return scores
