"""Stage: base against aligned on the test clips, every metric with its interval and paired difference."""

from __future__ import annotations

from dataclasses import replace

from v2a_dpo.artifacts.schema import SIMULATED_RATER
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import REAL, EvaluationFolder
from v2a_dpo.evaluation.inputs import EvaluationInputs, Rater, System
from v2a_dpo.evaluation.levels import mean_levels
from v2a_dpo.evaluation.metrics import BootstrapSettings, compare, evaluated_clips
from v2a_dpo.evaluation.sampling import check_comparable
from v2a_dpo.evaluation.systems import clips_with_features, failed_clips
from v2a_dpo.evaluation.tables import result_tables, to_markdown, to_text
from v2a_dpo.progress import Progress, silent
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

    `base` and `aligned` are (candidates, scores) folders of sample 0. Both must have been made alike but for
    the model (`evaluate.allow_different` names exceptions), and the scores of these candidates, clips and scorers;
    raises UserError where they were not. `events` lets the simulated rater of the tiny profile judge. Everything costly
    is kept in `output` and found again by the next run.
    """
    folder = EvaluationFolder(output)
    rater = Rater.of(SIMULATED_RATER, simulated_rater, events)
    inputs = EvaluationInputs(params, clips=clips, scorers=scorers, rater=rater, progress=progress)
    sources = {"base": base, "aligned": aligned}
    sampling = {name: inputs.sampling(source) for name, source in sources.items()}
    differences = check_comparable(sampling, allowed=params.evaluate.allow_different)
    real = inputs.real_audio(folder.features(REAL), like=base)
    systems = {name: inputs.system(source, folder.features(name)) for name, source in sources.items()}
    pairing = inputs.pair(real, systems)
    audible = frozenset(real.clip_ids)
    test_clips = [clip_id for clip_id in inputs.clip_ids if clip_id in audible]
    failed = failed_clips(
        [clip_id for clip_id in test_clips if all(clip_id in item.tried for item in sampling.values())],
        {name: clips_with_features(folder.features(name)) for name in systems},
    )
    evaluated = {name: evaluated_clips(real, system, pairing.clip_ids) for name, system in systems.items()}
    progress("Comparing", 0, 1)
    comparison = replace(
        compare(evaluated, BootstrapSettings.of(params), reference="base", failed=failed),
        levels={
            name: mean_levels(item.select(pairing.clip_ids).columns) for name, item in {REAL: real, **systems}.items()
        },
    )
    progress("Comparing", 1, 1)
    folder.write_per_clip(evaluated, clips=inputs.clips.fingerprint, keep=params.keep_artifacts)
    summary = inputs.summary(pairing, sampling) | {
        "differences": differences,
        "failed": failed,
        "test_set": inputs.test_set(test_clips),
    }
    tables = result_tables(comparison, summary)
    folder.write(comparison, summary, tables="\n".join(to_markdown(table) for table in tables))
    return "\n".join(to_text(table) for table in tables[1:])
