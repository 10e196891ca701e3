"""Stage: base and aligned model at several guidance scales.

Guidance alone repairs much of what alignment repairs, so one scale would flatter either of them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.schema import SIMULATED_RATER
from v2a_dpo.config import Params
from v2a_dpo.evaluation.folder import REAL, EvaluationFolder, write_curve
from v2a_dpo.evaluation.inputs import EvaluationInputs, Rater
from v2a_dpo.evaluation.metrics import BootstrapSettings, compare, evaluated_clips
from v2a_dpo.evaluation.systems import load_features
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.generate import generate
from v2a_dpo.stages.score import score
from v2a_dpo.tiny.rater import simulated_rater

#: Enough for an interval in a figure; the main result has its own number.
_CURVE_RESAMPLES = 500


def guidance(
    params: Params,
    *,
    clips: str,
    conditions: str,
    scorers: str,
    base: str,
    aligned: str,
    evaluation: str,
    output: str,
    events: str | None = None,
    progress: Progress = silent,
) -> str:
    """Writes `guidance-curve.json` to `output`: every metric of both models at the scales `evaluate.guidance_curve`.

    One flat record per scale and model, with each metric's value, `_low` and `_high`, on the first
    `evaluate.curve_clips` clips. `base` and `aligned` are model folders, `conditions` those of the test clips; the real
    audio's features come from the folder `evaluation`. `events` lets the simulated rater of the tiny profile judge.
    Candidates and scores are kept in `output` and found there by the next run. Returns where the curve is.
    """
    rater = Rater.of(SIMULATED_RATER, simulated_rater, events)
    inputs = EvaluationInputs(params, clips=clips, scorers=scorers, rater=rater, progress=progress)
    real = load_features(EvaluationFolder(evaluation).features(REAL))
    shards = Dataset.open(conditions, "conditions").shards
    limit = max(1, math.ceil(params.evaluate.curve_clips / max(1, len(shards))))
    settings = replace(BootstrapSettings.of(params), resamples=_CURVE_RESAMPLES, fd_resamples=_CURVE_RESAMPLES // 5)
    comparisons = {}
    for scale in params.evaluate.guidance_curve:
        systems = {}
        for name, model in (("base", base), ("aligned", aligned)):
            folder = join(output, f"{name}-{scale:g}")
            candidates, scores = join(folder, "candidates"), join(folder, "scores")
            generate(
                params,
                conditions=conditions,
                generator=model,
                output=candidates,
                candidates=1,
                guidance_scale=scale,
                limit=limit,
                progress=progress,
            )
            score(params, clips=clips, candidates=candidates, scorers=scorers, output=scores, progress=progress)
            systems[name] = inputs.system((candidates, scores), join(folder, "features"))
        tried = {clip_id for system in systems.values() for clip_id in system.clip_ids}
        paired = inputs.pair(real, systems, [clip_id for clip_id in inputs.clip_ids if clip_id in tried]).clip_ids
        evaluated = {name: evaluated_clips(real, system, paired) for name, system in systems.items()}
        comparisons[scale] = compare(evaluated, settings, reference="base")
    return write_curve(output, comparisons)
