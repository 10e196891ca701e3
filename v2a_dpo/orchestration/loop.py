"""The whole loop in one process: the stages in order, each with its folders, as `dvc.yaml` runs them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

#: The systems compared on the held-out clips.
_SYSTEMS = ("base", "aligned")


@dataclass(frozen=True)
class Step:
    """One stage of the loop on its folders; `run(progress=...)` does it and returns a summary that prints well."""

    name: str
    outputs: tuple[str, ...]
    run: Callable[..., object]


def plan(params: Params, *, root: str) -> Iterator[Step]:
    """The steps of the loop in order. Stages are imported when their step is reached."""
    at = Layout(root)
    yield from _world_steps(params, at)
    yield from _preference_steps(params, at)
    yield from _outcome_steps(params, at)


def run(params: Params, *, root: str, progress: Progress = silent) -> str:
    """Runs the loop under `root`; finished shards and models of an earlier run with the same parameters are kept.

    Returns the result table and where the report lies. Raises UserError for a profile that brings no data of its own.
    """
    if params.generator.family != "tiny":
        raise UserError(
            "Only the tiny profile makes its own videos and models.",
            where="generator.family",
            remedy="Run the stages one by one on your data, or use --params configs/tiny.yaml.",
        )
    for number, step in enumerate(steps := list(plan(params, root=root)), start=1):
        step.run(progress=progress)
        progress(f"{step.name} ({number} of {len(steps)})", 1, 1)
    return results_of(root)


def report_of(params: Params, *, root: str, output: str, progress: Progress = silent) -> str:
    """Writes the report of the loop under `root` to the file `output` and says where it is."""
    from v2a_dpo.stages.report import report

    at = Layout(root)
    base, aligned = (_system(at, name) for name in _SYSTEMS)
    return report(
        params,
        evaluation=at.evaluation,
        clips=at.clips("test"),
        base=base,
        aligned=aligned,
        output=output,
        events=at.events if params.generator.family == "tiny" and exists(at.events) else None,
        guidance=at.guidance if exists(at.guidance) else None,
        alignment=at.alignment,
        audioscore=at.audioscore,
        pairs=at.pairs,
        progress=progress,
    )


def results_of(root: str) -> str:
    """The result tables of the loop under `root`, and where its report lies."""
    from v2a_dpo.evaluation.folder import EvaluationFolder

    at = Layout(root)
    folder = EvaluationFolder(at.evaluation)
    return f"{folder.text(folder.TABLE)}\nReport: {join(at.report, 'index.html')}"


def _system(at: Layout, name: str) -> tuple[str, str]:
    """The (candidates, scores) folders of a system on the held-out clips."""
    return at.candidates(f"test-{name}"), at.scores(f"test-{name}")


def _world_steps(params: Params, at: Layout) -> Iterator[Step]:
    from v2a_dpo.stages.prepare import prepare
    from v2a_dpo.stages.pretrain import pretrain
    from v2a_dpo.stages.world import world

    yield Step("world", (at.world,), partial(world, params, output=at.world))
    yield Step("pretrain", (at.pretrained,), partial(pretrain, params, output=at.pretrained))
    for split in SPLITS:
        clips, conditions = at.clips(split), at.conditions(split)
        yield Step(
            f"prepare {split}",
            (clips, conditions),
            partial(
                prepare,
                params,
                videos=join(at.world, split),
                captions=join(at.world, split, "captions.csv"),
                split=split,
                generator=at.base,
                clips=clips,
                conditions=conditions,
            ),
        )


def _sampling_steps(
    params: Params, at: Layout, *, name: str, split: str, model: str, count: int | None
) -> Iterator[Step]:
    from v2a_dpo.stages.generate import generate
    from v2a_dpo.stages.score import score

    candidates, scores = at.candidates(name), at.scores(name)
    yield Step(
        f"generate {name}",
        (candidates,),
        partial(
            generate, params, conditions=at.conditions(split), generator=model, output=candidates, candidates=count
        ),
    )
    yield Step(
        f"score {name}",
        (scores,),
        partial(score, params, clips=at.clips(split), candidates=candidates, scorers=at.scorers, output=scores),
    )


def _preference_steps(params: Params, at: Layout) -> Iterator[Step]:
    from v2a_dpo.stages.align import align
    from v2a_dpo.stages.annotate import annotate
    from v2a_dpo.stages.mine import mine
    from v2a_dpo.stages.train_audioscore import train_audioscore

    mined = ("annotation", "preference")
    for split in mined:
        yield from _sampling_steps(params, at, name=split, split=split, model=at.base, count=None)
    yield Step(
        "annotate",
        (at.ratings,),
        partial(annotate, params, candidates=at.candidates("annotation"), events=at.events, output=at.ratings),
    )
    yield Step(
        "train-audioscore",
        (at.audioscore,),
        partial(train_audioscore, params, scores=at.scores("annotation"), ratings=at.ratings, output=at.audioscore),
    )
    yield Step(
        "mine",
        (at.pairs,),
        partial(
            mine,
            params,
            scores=at.scores("preference"),
            audioscore=at.audioscore,
            output=at.pairs,
            ratings=at.ratings,
            rated_scores=at.scores("annotation"),
        ),
    )
    yield Step(
        "align",
        (at.aligned, at.alignment),
        partial(
            align,
            params,
            pairs=at.pairs,
            candidates=[at.candidates(split) for split in mined],
            conditions=[at.conditions(split) for split in mined],
            generator=at.base,
            output=at.aligned,
            log=at.alignment,
            start_anew=True,
            live=True,
        ),
    )


def _outcome_steps(params: Params, at: Layout) -> Iterator[Step]:
    from v2a_dpo.stages.evaluate import evaluate
    from v2a_dpo.stages.gate import gate
    from v2a_dpo.stages.guidance import guidance
    from v2a_dpo.stages.plots import plots
    from v2a_dpo.stages.register import register

    for name, model in zip(_SYSTEMS, (at.base, at.aligned), strict=True):
        yield from _sampling_steps(params, at, name=f"test-{name}", split="test", model=model, count=1)
    base, aligned = (_system(at, name) for name in _SYSTEMS)
    yield Step(
        "evaluate",
        (at.evaluation,),
        partial(
            evaluate,
            params,
            clips=at.clips("test"),
            scorers=at.scorers,
            base=base,
            aligned=aligned,
            output=at.evaluation,
            events=at.events,
        ),
    )
    yield Step(
        "guidance",
        (at.guidance,),
        partial(
            guidance,
            params,
            clips=at.clips("test"),
            conditions=at.conditions("test"),
            scorers=at.scorers,
            base=at.base,
            aligned=at.aligned,
            evaluation=at.evaluation,
            output=at.guidance,
            events=at.events,
        ),
    )
    file = join(at.report, "index.html")
    yield Step("report", (file,), partial(report_of, params, root=at.root, output=file))
    yield Step(
        "plots",
        (at.plots,),
        partial(
            plots,
            params,
            alignment=at.alignment,
            audioscore=at.audioscore,
            guidance=at.guidance,
            output=at.plots,
        ),
    )
    yield Step("gate", (at.decision,), partial(gate, params, evaluation=at.evaluation, output=at.decision))
    yield Step(
        "register",
        (at.registration,),
        partial(
            register,
            params,
            base=at.base,
            aligned=at.aligned,
            evaluation=at.evaluation,
            report=file,
            output=at.registration,
            guidance=at.guidance,
            alignment=at.alignment,
            audioscore=at.audioscore,
            pairs=at.pairs,
            training_data=[at.ratings, *(at.candidates(split) for split in ("preference", "annotation"))],
            evaluation_data=[at.clips("test")],
            ancestors=[at.scorers, *at.ancestors],
            gate=at.decision,
        ),
    )
