"""The report's sections out of the artifacts' numbers: result, guidance curve, training, AudioScore, pairs, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.evaluation.metrics import METRICS, WIN_RATE, Comparison, verdict
from v2a_dpo.evaluation.report.charts import (
    Axes,
    Bar,
    Histogram,
    Series,
    forest_chart,
    histogram_chart,
    line_chart,
)
from v2a_dpo.evaluation.report.page import ReportSection
from v2a_dpo.evaluation.tables import result_tables, shown_metrics, system_title, to_html

#: What of the guidance curve is drawn, where it was measured.
_CURVE_METRICS = ("rater_quality", "ib_score", "kl_panns", "kl_passt", "desync_s", "inception_score", "fd_passt")
_SCORE_TITLES = {
    "imagebind": "ImageBind cosine",
    "clap": "CLAP cosine",
    "desync": "DeSync in s",
    "inception": "Inception contribution in nats",
    "pesq": "PESQ",
}


def findings(comparison: Comparison, *, rater: str) -> list[tuple[str, list[str]]]:
    """For each verdict, the titles of the metrics that have it; with several systems, each title names its system."""
    titles: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
    for system in comparison.others:
        end = f" of {system}" if len(comparison.others) > 1 else ""
        for metric in shown_metrics(comparison, rater=rater):
            titles[verdict(metric, comparison.differences[system][metric.key])].append(f"{metric.title}{end}")
        if system in comparison.win_rate:
            mark = verdict(WIN_RATE, comparison.win_rate[system], no_change=0.5)
            titles[mark].append(f"Win rate ({rater}){end}")
    return list(titles.items())


def result_section(comparison: Comparison, summary: Mapping[str, Any], *, rater: str) -> ReportSection:
    """The evaluation's tables, and for each system its differences relative to the reference system as a forest
    chart."""
    paper, *changes, levels = result_tables(comparison, summary)
    return ReportSection(
        "result",
        "Result",
        "Arrows say which way is better. Green and red mark paired differences whose interval excludes zero; "
        "everything else is no clear difference, whichever way it points.",
        [
            f'<div class="scroll" tabindex="0">{to_html(paper)}</div>',
            *(f'<div class="scroll">{to_html(change, css_class="reflow")}</div>' for change in changes),
            f'<div class="scroll" tabindex="0">{to_html(levels)}</div>',
            *(f'<div class="forest">{_forest(comparison, system, rater)}</div>' for system in comparison.others),
        ],
        wide=True,
    )


def _forest(comparison: Comparison, system: str, rater: str) -> str:
    bars = []
    for metric in shown_metrics(comparison, rater=rater):
        change = comparison.differences[system][metric.key]
        value = comparison.systems[comparison.reference][metric.key].value
        if value == 0:
            continue
        scale = (100 if metric.higher_is_better else -100) / abs(value)
        low, high = sorted((scale * change.low, scale * change.high))
        title = metric.title.replace(f" ({rater})", "")
        bars.append(Bar(title, scale * change.value, low, high, verdict(metric, change)))
    return forest_chart(
        bars,
        title=f"Improvement of {system} over {comparison.reference}",
        x_label=f"% of the value of {comparison.reference}; right is better",
    )


def figure_section(figure: str, *, clip_id: str, systems: Sequence[str], marks: bool) -> ReportSection:
    """The spectrogram figure of one clip."""
    lines = "Dashed lines mark the true event times. " if marks else ""
    return ReportSection(
        "spectrograms",
        "Spectrograms",
        f"Mel spectrograms of clip {clip_id} on one colour scale: {', '.join(['real', *systems])}. {lines}"
        "It is the clip of median change, not the best one.",
        [f'<div class="panel figure">{figure}</div>'],
        wide=True,
    )


def curve_section(records: Sequence[Mapping[str, Any]], *, main: Mapping[str, float], rater: str) -> ReportSection:
    """The systems' metrics over the guidance scale; `main` is each system's scale in the main result."""
    marks = [(scale, "main result") for scale in sorted(set(main.values()))]
    titles = {metric.key: metric for metric in METRICS}
    charts = []
    for key in _CURVE_METRICS:
        if key not in records[0]:
            continue
        lines = [
            _curve_line([record for record in records if record["system"] == name], key, name, f"track-{place}")
            for place, name in enumerate(dict.fromkeys(record["system"] for record in records), start=1)
        ]
        metric = titles[key]
        title = f"Quality ({rater})" if key == "rater_quality" else metric.title
        arrow = "higher is better" if metric.higher_is_better else "lower is better"
        axes = Axes(f"{title}, {arrow}", "guidance scale", metric.unit, marks=marks)
        charts.append(line_chart(lines, axes))
    clips = records[0]["clips"]
    return ReportSection(
        "guidance",
        "Guidance curve",
        f"Guidance repairs much of what alignment repairs, so one scale is not enough. {clips} clips per point, the "
        "same noise everywhere; shaded are the bootstrap intervals.",
        charts,
    )


def _curve_line(records: Sequence[Mapping[str, Any]], key: str, name: str, css_class: str) -> Series:
    points = [(record["guidance_scale"], record[key]) for record in records]
    band = [(record["guidance_scale"], record[f"{key}_low"], record[f"{key}_high"]) for record in records]
    return Series(system_title(name), css_class, points, band=band, dots=True)


def audioscore_section(metrics: Mapping[str, Any]) -> ReportSection:
    """AudioScore's confusion matrix, calibration, learning curve and ablation, all on validation clips."""
    validation, labels = metrics["validation"], metrics["labels"]
    sources = ", ".join(f"{count} {source}" for source, count in metrics["sources"].items())
    classes = ("first", "second", "third")
    curves = []
    for label, css_class in zip(labels, classes, strict=True):
        bins = [item for item in validation["calibration"][label]["bins"] if item["count"]]
        points = [(item["mean_probability"], item["frequency"]) for item in bins]
        curves.append(Series(label.capitalize(), css_class, points, dots=True))
    unit = (0.0, 1.0)
    calibration = line_chart(
        curves, Axes("Calibration", "predicted probability", "frequency", x_range=unit, y_range=unit, diagonal=True)
    )
    history = metrics["history"]
    learning = line_chart(
        [
            Series("Training", "first", list(enumerate(history["training_loss"]))),
            Series("Validation", "second", list(enumerate(history["validation_loss"]))),
        ],
        Axes("Cross-entropy", "full-batch step", "nats", marks=[(history["best_step"], "kept")]),
    )
    return ReportSection(
        "audioscore",
        "AudioScore",
        f"The preference classifier, trained on ratings ({sources}) and measured on {validation['ratings']} ratings of "
        f"validation clips: accuracy {validation['accuracy']:.3f} (always the commonest label: "
        f"{validation['majority_accuracy']:.3f}). Early stopping looks at the same clips, so this is slightly "
        "optimistic.",
        [_confusion(validation["confusion"], labels), calibration, learning, _ablation(metrics)],
    )


def _confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    rows = []
    for label, row in zip(labels, counts, strict=True):
        total = max(1, sum(row))
        cells = (
            f'<td style="--share:{count / total:.3f}">{count}<small>{100 * count / total:.0f}%</small></td>'
            for count in row
        )
        rows.append((label, "".join(cells)))
    return _figure_table("Confusion", ["rated ↓ predicted →", *labels], rows, css_class="chart confusion")


def _ablation(metrics: Mapping[str, Any]) -> str:
    everything = metrics["validation"]["accuracy"]
    rows = [("all five", f"<td>{everything:.3f}</td><td></td>")]
    for score in metrics["scores"]:
        accuracy = metrics["ablation"][score]["accuracy"]
        change = f"{accuracy - everything:+.3f}".replace("-", "−")
        rows.append((f"without {score}", f"<td>{accuracy:.3f}</td><td>{change}</td>"))
    caption = f"What each score is worth ({metrics['ablation']['method']})"
    return _figure_table(caption, ["scores", "accuracy", "change"], rows)


def _figure_table(
    caption: str, head: Sequence[str], rows: Sequence[tuple[str, str]], *, css_class: str = "chart"
) -> str:
    """A small table as a figure; a row is its title and its cells in HTML."""
    columns = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(f'<tr><th scope="row">{escape(title)}</th>{cells}</tr>' for title, cells in rows)
    return (
        f'<figure class="{css_class}"><figcaption>{escape(caption)}</figcaption>'
        f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def pairs_section(summary: Mapping[str, Any]) -> ReportSection:
    """The histogram of complexity scores, where the curriculum splits, and what mining dropped."""
    counts = summary["histogram"]
    edges = [bin_ / len(counts) for bin_ in range(len(counts) + 1)]
    chart = histogram_chart(
        [Histogram("", "first", edges, counts)],
        Axes(
            "Complexity of AudioScore's pairs",
            "complexity; easy pairs to the right",
            "pairs",
            marks=[(summary["threshold"], "threshold")],
            x_range=(0, 1),
        ),
    )
    rows = [(f"pairs from {source}", count) for source, count in summary["pairs"].items()]
    rows += [(f"phase {phase}", count) for phase, count in summary["phases"].items()]
    rows += [(f"dropped: {reason.replace('_', ' ')}", count) for reason, count in summary["dropped"].items()]
    table = _figure_table("What was mined", ["what", "count"], [(name, f"<td>{count}</td>") for name, count in rows])
    return ReportSection(
        "pairs",
        "Preference pairs",
        f"Best against worst of {summary['candidates']} candidates of {summary['clips']} clips. The curriculum trains "
        f"on pairs above {summary['threshold']:.3f} first. Rated pairs have complexity 0 and are always hard.",
        [chart, table],
    )


def scores_section(scores: Mapping[str, Mapping[str, NDArray[np.floating]]], *, clips: int) -> ReportSection:
    """Histograms of the candidates' scores by system; `scores` maps system -> score -> values, NaN missing."""
    charts = []
    for score, title in _SCORE_TITLES.items():
        values = {name: columns[score][np.isfinite(columns[score])] for name, columns in scores.items()}
        together = np.concatenate(list(values.values()))
        if together.size < 2:
            continue
        edges = np.histogram_bin_edges(together, bins=int(np.clip(1.5 * np.sqrt(together.size), 6, 24)))
        histograms = [
            Histogram(system_title(name), f"track-{place}", edges.tolist(), np.histogram(own, edges)[0].tolist())
            for place, (name, own) in enumerate(values.items(), start=1)
        ]
        count = min(map(len, values.values()))
        charts.append(histogram_chart(histograms, Axes(f"{title}, n = {count}", title, "clips")))
    return ReportSection(
        "scores",
        "Score distributions",
        f"The five scores of the {clips} test clips' candidates, one histogram per system. "
        "A score that does not apply to a clip is left out, never made up.",
        charts,
    )
