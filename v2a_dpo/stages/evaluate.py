"""Stage: base against aligned on the test clips, every metric with its interval and paired difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.schema import CLIPS
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.inputs import EvaluationInputs, Rater, System
from v2a_dpo.evaluation.levels import mean_levels
from v2a_dpo.evaluation.metrics import SYSTEMS, BootstrapSettings, Comparison, compare
from v2a_dpo.evaluation.pairing import Pairing, failed_clips
from v2a_dpo.evaluation.per_clip import per_clip_rows
from v2a_dpo.evaluation.sampling import Sampling, compared, shown_setting
from v2a_dpo.evaluation.systems import clips_with_features
from v2a_dpo.evaluation.tables import Table, difference_table, level_table, paper_table, remarks, to_markdown, to_text
from v2a_dpo.progress import Progress, silent
from v2a_dpo.randomness import row_seed
from v2a_dpo.tiny.rater import simulated_rater


def evaluate(
    params: Params,
    *,
    clips: str,
    scorers: str,
    base: System,
    aligned: System,
    output: str,
    events: str | None = None,
    progress: Progress = silent,
) -> str:
    """Writes metrics, tables and per-clip numbers to `output`; returns the tables of differences and levels.

    `base` and `aligned` are (candidates, scores) folders of sample 0. Both must say that they were made alike but for
    the model (`evaluate.allow_different` names exceptions), and the scores of these candidates, clips and scorers;
    raises UserError where they were not. `events` lets the simulated rater of the tiny profile judge. Everything costly
    is kept in `output` and found again by the next run.
    """
    folder = EvaluationFolder(output)
    rater = (
        Rater("simulated rater", simulated_rater(events), file_checksum(events), simulated_rater) if events else None
    )
    inputs = EvaluationInputs(params, clips=clips, scorers=scorers, rater=rater, progress=progress)
    sampling = {"base": inputs.sampling(base), "aligned": inputs.sampling(aligned)}
    differences = compared(sampling["base"], sampling["aligned"], allowed=params.evaluate.allow_different)
    everything = inputs.real_audio(folder.features("reference"), like=base)
    systems = {
        "base": inputs.system(base, folder.features("base")),
        "aligned": inputs.system(aligned, folder.features("aligned")),
    }
    pairing = inputs.pair(everything, systems)
    heard = set(everything.clip_ids)
    test_clips = [clip_id for clip_id in inputs.clip_ids if clip_id in heard]
    failed = failed_clips(
        [clip_id for clip_id in test_clips if all(clip_id in item.tried for item in sampling.values())],
        {name: clips_with_features(folder.features(name)) for name in SYSTEMS},
    )
    real = everything.select(pairing.clip_ids)
    systems = {name: system.select(pairing.clip_ids) for name, system in systems.items()}
    progress("Comparing", 0, 1)
    comparison = replace(
        compare(
            real,
            systems,
            BootstrapSettings.of(params),
            failed={name: len(clip_ids) for name, clip_ids in failed.items()},
        ),
        levels={name: mean_levels(source.columns) for name, source in {"real": real, **systems}.items()},
    )
    progress("Comparing", 1, 1)
    folder.write_per_clip(
        per_clip_rows(real, systems), clips=Dataset.open(clips, CLIPS).fingerprint, keep=params.keep_artifacts
    )
    summary = _summary(params, pairing, rater=rater.name if rater else None)
    summary |= {
        "sampling": {name: {"seed": _root_seed(params, item), **item.settings} for name, item in sampling.items()},
        "differences": differences,
        "failed": failed,
        "test_set": inputs.test_set(test_clips),
        "scorers_fingerprint": inputs.scorers_fingerprint,
    }
    folder.write_summary(summary)
    tables = _tables(comparison, summary)
    folder.write_tables("\n".join(to_markdown(table) for table in tables))
    folder.write_comparison(comparison)
    return f"{to_text(tables[1])}\n{to_text(tables[2])}"


def _summary(params: Params, pairing: Pairing, *, rater: str | None) -> dict[str, Any]:
    bootstrap = BootstrapSettings.of(params)
    return {
        "profile": params.profile,
        "generator": params.generator.model_dump(mode="json"),
        "scorers": params.score.scorers,
        "rater": rater,
        "duration_s": params.prepare.duration_s,
        "confidence": bootstrap.confidence,
        "resamples": bootstrap.resamples,
        "fd_resamples": bootstrap.fd_resamples,
        "expected_clips": pairing.expected,
        "clips": len(pairing.clip_ids),
        "missing": pairing.missing,
    }


def _root_seed(params: Params, sampling: Sampling) -> int | None:
    """The root seed that the candidates' seeds come from; None when it is another one than that of `params`."""
    ours = all(seed == row_seed(params.seed, clip_id, 0) for clip_id, seed in sampling.seeds.items())
    return params.seed if ours else None


def _tables(comparison: Comparison, summary: dict[str, Any]) -> tuple[Table, Table, Table]:
    percent = f"{100 * summary['confidence']:g}%"
    rater = summary["rater"] or "rater"
    sampling, besides = summary["sampling"], remarks(comparison, summary["differences"])
    settings = (
        f"{summary['profile']} profile, {comparison.clips} held-out clips, guidance scale "
        f"{shown_setting(sampling, 'guidance_scale')}, {shown_setting(sampling, 'steps')} steps"
    )
    noise = "" if "seed" in summary["differences"] else " and noise"
    return (
        paper_table(
            comparison,
            caption=f"Results ({settings}) with {percent} bootstrap intervals over clips. {besides}",
            rater=rater,
        ),
        difference_table(
            comparison,
            caption=f"Aligned minus base ({settings}): paired differences on the same clips{noise}, "
            f"{percent} bootstrap intervals. {besides}",
            rater=rater,
        ),
        level_table(comparison, caption=f"Levels ({settings}): means over clips, neither better nor worse. {besides}"),
    )
