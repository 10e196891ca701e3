"""The whole loop in one process: the stages in order, each with its folders, as `dvc.yaml` runs them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

#: The systems compared on the test clips.
_SYSTEMS = ("base", "aligned")


@dataclass(frozen=True)
class Step:
    """One stage of the loop on its folders; `run(progress=...)` does it and returns a summary that prints well."""

    name: str
    outputs: tuple[str, ...]
    run: Callable[..., object]


class _Steps:
    """The steps of the loop under one root. Stages are imported when their step is reached."""

    def __init__(self, params: Params, root: str) -> None:
        self._params = params
        self._layout = Layout(root)

    def __iter__(self) -> Iterator[Step]:
        yield from self._world()
        for split in ("annotation", "preference"):
            yield from self._candidates(split, split=split, model=self._layout.base, count=None)
        yield from self._alignment()
        for name, model in zip(_SYSTEMS, (self._layout.base, self._layout.aligned), strict=True):
            yield from self._candidates(f"test-{name}", split="test", model=model, count=1)
        yield from self._evaluation()
        yield from self._release()

    def _step(self, name: str, stage: Callable[..., object], *outputs: str, **arguments: Any) -> Step:
        return Step(name, outputs, partial(stage, self._params, **arguments))

    def _world(self) -> Iterator[Step]:
        from v2a_dpo.stages.prepare import prepare
        from v2a_dpo.stages.pretrain import pretrain
        from v2a_dpo.stages.world import world

        layout = self._layout
        yield self._step("world", world, layout.world, output=layout.world)
        yield self._step("pretrain", pretrain, layout.pretrained, output=layout.pretrained)
        for split in SPLITS:
            clips, conditions = layout.clips(split), layout.conditions(split)
            yield self._step(
                f"prepare {split}", prepare, clips, conditions,
                videos=join(layout.world, split), captions=join(layout.world, split, "captions.csv"), split=split,
                generator=layout.base, clips=clips, conditions=conditions,
            )  # fmt: skip

    def _candidates(self, name: str, *, split: str, model: str, count: int | None) -> Iterator[Step]:
        from v2a_dpo.stages.generate import generate
        from v2a_dpo.stages.score import score

        layout = self._layout
        candidates, scores = layout.candidates(name), layout.scores(name)
        yield self._step(
            f"generate {name}", generate, candidates,
            conditions=layout.conditions(split), generator=model, output=candidates, candidates=count,
        )  # fmt: skip
        yield self._step(
            f"score {name}", score, scores,
            clips=layout.clips(split), candidates=candidates, scorers=layout.scorers, output=scores,
        )  # fmt: skip

    def _alignment(self) -> Iterator[Step]:
        from v2a_dpo.stages.align import align
        from v2a_dpo.stages.annotate import annotate
        from v2a_dpo.stages.mine import mine
        from v2a_dpo.stages.train_audioscore import train_audioscore

        layout, splits = self._layout, ("annotation", "preference")
        rated_scores, scores = map(layout.scores, splits)
        yield self._step(
            "annotate", annotate, layout.ratings,
            candidates=layout.candidates("annotation"), events=layout.events, output=layout.ratings,
        )  # fmt: skip
        yield self._step(
            "train-audioscore", train_audioscore, layout.audioscore,
            scores=rated_scores, ratings=layout.ratings, output=layout.audioscore,
        )  # fmt: skip
        yield self._step(
            "mine", mine, layout.pairs,
            scores=scores, audioscore=layout.audioscore, output=layout.pairs, ratings=layout.ratings,
            rated_scores=rated_scores,
        )  # fmt: skip
        yield self._step(
            "align", align, layout.aligned, layout.alignment,
            pairs=layout.pairs, candidates=[*map(layout.candidates, splits)],
            conditions=[*map(layout.conditions, splits)], generator=layout.base, output=layout.aligned,
            log=layout.alignment, start_anew=True, live=True,
        )  # fmt: skip

    def _evaluation(self) -> Iterator[Step]:
        from v2a_dpo.stages.evaluate import evaluate
        from v2a_dpo.stages.guidance import guidance
        from v2a_dpo.stages.plots import plots

        layout = self._layout
        base, aligned = (_system(layout, name) for name in _SYSTEMS)
        yield self._step(
            "evaluate", evaluate, layout.evaluation,
            clips=layout.clips("test"), scorers=layout.scorers, base=base, aligned=aligned, output=layout.evaluation,
            events=layout.events,
        )  # fmt: skip
        yield self._step(
            "guidance", guidance, layout.guidance,
            clips=layout.clips("test"), conditions=layout.conditions("test"), scorers=layout.scorers,
            base=layout.base, aligned=layout.aligned, evaluation=layout.evaluation, output=layout.guidance,
            events=layout.events,
        )  # fmt: skip
        yield self._step("report", report_of, layout.report, root=layout.root, output=layout.report)
        yield self._step(
            "plots", plots, layout.plots,
            alignment=layout.alignment, audioscore=layout.audioscore, guidance=layout.guidance, output=layout.plots,
        )  # fmt: skip

    def _release(self) -> Iterator[Step]:
        from v2a_dpo.stages.gate import gate
        from v2a_dpo.stages.register import register

        layout = self._layout
        yield self._step("gate", gate, layout.decision, evaluation=layout.evaluation, output=layout.decision)
        yield self._step(
            "register", register, layout.registration,
            base=layout.base, aligned=layout.aligned, evaluation=layout.evaluation, report=layout.report,
            output=layout.registration, guidance=layout.guidance, alignment=layout.alignment,
            audioscore=layout.audioscore, pairs=layout.pairs,
            training_data=[layout.ratings, layout.candidates("preference"), layout.candidates("annotation")],
            evaluation_data=[layout.clips("test")], scorers=layout.scorers, ancestors=layout.ancestors,
            gate=layout.decision,
        )  # fmt: skip


def plan(params: Params, *, root: str) -> Iterator[Step]:
    """The steps of the loop in order."""
    return iter(_Steps(params, root))


def run(params: Params, *, root: str, progress: Progress = silent) -> str:
    """Runs the loop under `root`; finished shards and models of an earlier run with the same parameters are kept.

    Returns the result table and the path of the report. Raises UserError for a profile that has no data of its own.
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
    """Writes the report of the loop under `root` to the file `output` and returns a sentence with its path."""
    from v2a_dpo.stages.report import report

    layout = Layout(root)
    base, aligned = (_system(layout, name) for name in _SYSTEMS)
    return report(
        params,
        evaluation=layout.evaluation,
        clips=layout.clips("test"),
        base=base,
        aligned=aligned,
        output=output,
        events=layout.events if params.generator.family == "tiny" and exists(layout.events) else None,
        guidance=layout.guidance if exists(layout.guidance) else None,
        alignment=layout.alignment,
        audioscore=layout.audioscore,
        pairs=layout.pairs,
        progress=progress,
    )


def results_of(root: str) -> str:
    """The result tables of the loop under `root`, and the path of its report."""
    from v2a_dpo.evaluation.folder import EvaluationFolder

    layout = Layout(root)
    folder = EvaluationFolder(layout.evaluation)
    return f"{folder.text(folder.TABLE)}\nReport: {layout.report}"


def _system(layout: Layout, name: str) -> tuple[str, str]:
    """The (candidates, scores) folders of a system on the test clips."""
    return layout.candidates(f"test-{name}"), layout.scores(f"test-{name}")
