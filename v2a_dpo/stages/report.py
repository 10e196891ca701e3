"""Stage: the self-contained HTML report of a loop, out of its artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import exists, join, read_bytes, write_atomically
from v2a_dpo.artifacts.schema import CLIPS, SCORES
from v2a_dpo.config import Params
from v2a_dpo.evaluation.metrics import SYSTEMS, Comparison, Metric
from v2a_dpo.evaluation.per_clip import PER_CLIP_SCHEMA
from v2a_dpo.evaluation.report import sections
from v2a_dpo.evaluation.report.gallery import GalleryClip, Track, choose_clips, clip_figure, gallery_clip, preview_mp4
from v2a_dpo.evaluation.report.page import Page, Section, render
from v2a_dpo.evaluation.report.training import LogRecord, training_section
from v2a_dpo.evaluation.tables import shown_metrics
from v2a_dpo.media.audio import decode_flac, read_audio
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.evaluate import CURVE_FILE, METRICS_FILE, PER_CLIP_FOLDER, SUMMARY_FILE
from v2a_dpo.stages.evaluation_inputs import System, read_truths

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
    truth: str | None = None,
    alignment: str | None = None,
    audioscore: str | None = None,
    pairs: str | None = None,
    progress: Progress = silent,
) -> str:
    """Writes the report to the HTML file `output` and says where it is.

    `base` and `aligned` are the (candidates, scores) folders that were evaluated; `truth` adds event marks; the sections of
    `alignment`, `audioscore` and `pairs` are left out where these are not given. Videos and sounds are inside the file.
    """
    comparison = Comparison.from_dict(_read_json(join(evaluation, METRICS_FILE)))
    summary = _read_json(join(evaluation, SUMMARY_FILE))
    rater = summary["rater"] or "rater"
    media = _Media(clips=clips, systems={"base": base, "aligned": aligned}, truth=truth)
    chosen, median, numbers = _choice(evaluation, count=params.report.gallery_clips)
    gallery = []
    for done, clip_id in enumerate(chosen):
        gallery.append(media.card(clip_id, _shown(numbers[clip_id], shown_metrics(comparison, rater=rater))))
        progress("Collecting clips", done + 1, len(chosen))
    figure = clip_figure(media.tracks(median), clip_id=median, event_times_s=media.events(median))
    parts: list[Section] = [
        sections.result_section(comparison, rater=rater, confidence=summary["confidence"]),
        sections.figure_section(figure, clip_id=median, marks=truth is not None),
    ]
    if exists(join(evaluation, CURVE_FILE)):
        curve = _read_json(join(evaluation, CURVE_FILE))
        parts.append(sections.curve_section(curve, chosen=summary["guidance_scale"], rater=rater))
    parts.append(sections.scores_section(_scores(base, aligned), clips=comparison.clips))
    if alignment is not None:
        parts.append(training_section(_read_log(join(alignment, "log.jsonl"))))
    if audioscore is not None:
        parts.append(sections.audioscore_section(_read_json(join(audioscore, "metrics.json"))))
    if pairs is not None:
        parts.append(sections.pairs_section(_read_json(f"{pairs.rstrip('/')}-summary.json")))
    page = Page(
        title="Preference alignment of a video-to-audio model",
        subtitle=f"Base and aligned model on {comparison.clips} held-out clips, the same noise and guidance scale "
        f"{summary['guidance_scale']:g} for both",
        notes=_notes(summary),
        findings=sections.findings(comparison, rater=rater),
        sections=parts,
        gallery=gallery,
        gallery_explanation="One silent video and three soundtracks a clip; switching goes on at the same moment. The clips "
        "are spread evenly over the ranking from most improved to most worsened, so failures are among them.",
        settings=_settings(summary),
    )
    content = render(page).encode()
    write_atomically(output, content)
    return f"{output}: {len(gallery)} clips, {len(content) / 1e6:.1f} MB"


class _Media:
    """The held-out clips' videos, sounds and events, read when a card needs them."""

    def __init__(self, *, clips: str, systems: Mapping[str, System], truth: str | None) -> None:
        table = Dataset.open(clips, CLIPS).table()
        self._clips = {row["clip_id"]: row for row in table.to_pylist()}
        self._candidates = {name: Dataset.open(folders[0], "candidates") for name, folders in systems.items()}
        self._truths = read_truths(truth) if truth else {}

    def events(self, clip_id: str) -> Sequence[float]:
        return self._truths[clip_id].event_times_s if clip_id in self._truths else ()

    def tracks(self, clip_id: str) -> dict[str, Track]:
        generated = {name: Track(*_first_audio(source, clip_id)) for name, source in self._candidates.items()}
        sample_rate = generated["base"].sample_rate
        clip = self._clips[clip_id]
        real = read_audio(
            clip["video"], sample_rate=sample_rate, start_s=clip["start_s"], duration_s=clip["duration_s"]
        )
        return {"truth": Track(real, sample_rate), **generated}

    def card(self, clip_id: str, numbers: Sequence[tuple[str, str, str]]) -> GalleryClip:
        clip = self._clips[clip_id]
        video = preview_mp4(
            clip["video"],
            start_s=clip["start_s"],
            duration_s=clip["duration_s"],
            width=clip["width"],
            height=clip["height"],
            frame_rate=clip["frame_rate"],
        )
        return gallery_clip(
            clip_id=clip_id,
            prompt=clip["prompt"] or "",
            video=video,
            tracks=self.tracks(clip_id),
            event_times_s=self.events(clip_id),
            numbers=numbers,
        )


def _first_audio(source: Dataset, clip_id: str) -> tuple[Any, int]:
    """The audio of a clip's sample 0; only the shard that holds it is read with its audio."""
    for entry in source.shards:
        keys = source.shard(entry, ["clip_id", "sample"])
        wanted = pc.and_(pc.equal(keys["clip_id"], clip_id), pc.equal(keys["sample"], 0))
        if pc.any(wanted).as_py():
            row = source.shard(entry, ["audio"]).filter(wanted).to_pylist()[0]
            return decode_flac(row["audio"]["bytes"])
    raise KeyError(clip_id)


def _choice(evaluation: str, *, count: int) -> tuple[list[str], str, dict[str, dict[str, dict[str, float | None]]]]:
    """The gallery's clips, the clip of median change, and all per-clip numbers (clip -> system -> number).

    Change is the rater's where it rated, else the fall of KL.
    """
    numbers: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in Dataset.open(join(evaluation, PER_CLIP_FOLDER), PER_CLIP_SCHEMA).table().to_pylist():
        numbers.setdefault(row["clip_id"], {})[row["system"]] = row
    clip_ids = list(numbers)
    rated = all(numbers[clip_id][name]["rater_quality"] is not None for clip_id in clip_ids for name in SYSTEMS)
    key, sign = ("rater_quality", 1.0) if rated else ("kl_panns", -1.0)
    base, aligned = (
        np.array([numbers[clip_id][name][key] for clip_id in clip_ids], dtype=np.float64) for name in SYSTEMS
    )
    change = sign * (aligned - base)
    median = clip_ids[choose_clips(change, count=3)[len(clip_ids) > 1]]
    return [clip_ids[row] for row in choose_clips(change, count=count)], median, numbers


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


def _notes(summary: Mapping[str, Any]) -> list[str]:
    notes = []
    if summary["profile"] == "tiny":
        notes.append(
            "Tiny profile: a small generator on a procedural world. The numbers show that the loop works, not how a "
            "full-size model sounds."
        )
    if summary["scorers"] == "tiny":
        notes.append("Small frozen scorers stand in for PaSST, PANNs, ImageBind, CLAP and Synchformer.")
    if summary["rater"] == "simulated rater":
        notes.append("The rater is simulated: it knows the true events. No person rated these clips.")
    if summary["clips"] < summary["expected_clips"]:
        lacks = ", ".join(f"{name} {count}" for name, count in summary["missing"].items() if count)
        notes.append(f"{summary['expected_clips'] - summary['clips']} test clips were left out; missing: {lacks}.")
    return notes


def _settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    generator = summary["generator"]
    return [
        ("Profile", summary["profile"]),
        ("Generator", f"{generator['family']} {generator['variant']}, {generator['precision']}"),
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


def _read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def _read_log(uri: str) -> list[LogRecord]:
    return [json.loads(line) for line in read_bytes(uri).decode().splitlines() if line]
