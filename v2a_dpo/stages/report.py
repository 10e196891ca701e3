"""Stage: the self-contained HTML report of a loop, out of its artifacts."""

from __future__ import annotations

from v2a_dpo.alignment.run.log import LOG, read_log
from v2a_dpo.artifacts.json_files import read_json
from v2a_dpo.artifacts.location import join, write_atomically
from v2a_dpo.artifacts.schema import SCORE_NAMES
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import EvaluationFolder, read_curve
from v2a_dpo.evaluation.inputs import System
from v2a_dpo.evaluation.report import sections
from v2a_dpo.evaluation.report.gallery import GalleryMedia, RankedClips
from v2a_dpo.evaluation.report.page import Page, ReportSection, notes, render, settings
from v2a_dpo.evaluation.report.training import training_section
from v2a_dpo.evaluation.sampling import shown_setting
from v2a_dpo.evaluation.systems import load_scores
from v2a_dpo.evaluation.tables import shown_metrics
from v2a_dpo.preference.audioscore import METRICS_FILE
from v2a_dpo.progress import Progress, silent
from v2a_dpo.tiny.world import read_events


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
    """Writes the report to the HTML file `output` and returns a line about it.

    `base` and `aligned` are the (candidates, scores) folders that were evaluated; `events` adds event marks; the
    sections of `guidance`, `alignment`, `audioscore` and `pairs` are left out where these are not given. Videos and
    sounds are inside the file.
    """
    folder = EvaluationFolder(evaluation)
    comparison, summary = folder.comparison(), folder.summary()
    rater = summary["rater"] or "rater"
    systems = {"base": base, "aligned": aligned}
    event_times_s = {key: item.event_times_s for key, item in read_events(events).items()} if events else {}
    media = GalleryMedia(clips=clips, systems=systems, event_times_s=event_times_s)
    ranked, metrics = RankedClips(folder, comparison), shown_metrics(comparison, rater=rater)
    gallery, gallery_ids = [], ranked.spread(params.report.gallery_clips)
    for done, clip_id in enumerate(gallery_ids, start=1):
        gallery.append(media.card(clip_id, ranked.numbers(clip_id, metrics)))
        progress("Collecting clips", done, len(gallery_ids))
    median = ranked.median()
    parts: list[ReportSection] = [
        sections.result_section(comparison, summary, rater=rater),
        sections.figure_section(media.figure(median), clip_id=median, systems=list(systems), marks=events is not None),
    ]
    if guidance is not None and (curve := read_curve(guidance)):
        scales = {name: settings["guidance_scale"] for name, settings in summary["sampling"].items()}
        parts.append(sections.curve_section(curve, main=scales, rater=rater))
    scores = {name: load_scores(scores, SCORE_NAMES).columns for name, (_, scores) in systems.items()}
    parts.append(sections.scores_section(scores, clips=comparison.clips))
    if alignment is not None:
        parts.append(training_section(read_log(join(alignment, LOG))))
    if audioscore is not None:
        parts.append(sections.audioscore_section(read_json(join(audioscore, METRICS_FILE))))
    if pairs is not None:
        parts.append(sections.pairs_section(read_json(f"{pairs.rstrip('/')}-summary.json")))
    page = Page(
        title="Preference alignment of a video-to-audio model",
        subtitle=f"Base and aligned model on {comparison.clips} test clips, guidance scale "
        f"{shown_setting(summary['sampling'], 'guidance_scale')}"
        + ("" if "seed" in summary["differences"] else ", the same noise for both"),
        notes=notes(summary),
        findings=sections.findings(comparison, rater=rater),
        sections=parts,
        gallery=gallery,
        gallery_explanation="One silent video and a soundtrack per system; switching goes on at the same moment. The "
        "clips are spread evenly over the ranking by change, from the best to the worst, so the worst case is among "
        "them.",
        settings=settings(comparison, summary),
    )
    content = render(page).encode()
    write_atomically(output, content)
    return f"{output}: {len(gallery)} clips, {len(content) / 1e6:.1f} MB"
