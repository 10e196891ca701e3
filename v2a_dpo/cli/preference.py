"""Commands that train: AudioScore, preference pairs, alignment."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.options import AT, Stage, folder, register

TRAIN = "Train"

_SPLITS = ("annotation", "preference")
_CANDIDATES = [AT.candidates(split) for split in _SPLITS]
_CONDITIONS = [AT.conditions(split) for split in _SPLITS]


def train_audioscore(
    scores: Annotated[str, folder("Scores of the rated candidates")] = AT.scores("annotation"),
    ratings: Annotated[str, folder("Their ratings")] = AT.ratings,
    output: Annotated[str, folder("Output for the classifier")] = AT.audioscore,
) -> Stage:
    """Train AudioScore, the Good / Medium / Bad classifier over five scores.

    Example: v2a-dpo train-audioscore
    """
    from v2a_dpo.stages.train_audioscore import train_audioscore as stage

    return stage


def mine(
    scores: Annotated[str, folder("Scores of the candidates to pair")] = AT.scores("preference"),
    audioscore: Annotated[str, folder("The trained AudioScore")] = AT.audioscore,
    output: Annotated[str, folder("Output for the pairs")] = AT.pairs,
    ratings: Annotated[str | None, folder("Ratings that become pairs of complexity 0, if there are any")] = AT.ratings,
    rated_scores: Annotated[
        str | None, folder("Scores of the rated candidates, to choose among equal ratings")
    ] = AT.scores("annotation"),
) -> Stage:
    """Mine best-against-worst pairs by P(Good) and P(Bad), with complexity and curriculum phase.

    Example: v2a-dpo mine
    """
    from v2a_dpo.stages.mine import mine as stage

    return stage


def align(
    pairs: Annotated[str, folder("The preference pairs")] = AT.pairs,
    candidates: Annotated[list[str], folder("Candidates of the pairs; repeatable")] = _CANDIDATES,
    conditions: Annotated[list[str], folder("Conditions of their clips; repeatable")] = _CONDITIONS,
    generator: Annotated[str, folder("The base generator")] = AT.base,
    output: Annotated[str, folder("Output for the aligned generator")] = AT.aligned,
    log: Annotated[str, folder("Output for log, summary and checkpoints")] = AT.alignment,
    live: Annotated[bool, typer.Option(help="Send the curves to MLflow during training.")] = True,
    start_anew: Annotated[
        bool,
        typer.Option("--start-anew", help="Move a different earlier run aside and start anew, instead of refusing."),
    ] = False,
) -> Stage:
    """Align the generator by curriculum Flow-DPO; resumes exactly after a stop. Nothing of an earlier run is deleted.

    Runs on several GPUs, too: torchrun --nproc-per-node 8 -m v2a_dpo.cli align (or accelerate launch -m).

    Example: v2a-dpo align --set align.beta=200
    """
    from v2a_dpo.stages.align import align as stage

    return stage


def sync_curves(log: Annotated[str, folder("The log folder of an alignment")] = AT.alignment) -> object:
    """Send the training records that are missing in MLflow, after a time without a server.

    Example: v2a-dpo sync-curves
    """
    from v2a_dpo.alignment.run.curves import sync

    return sync(log)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, TRAIN, train_audioscore)
    register(app, TRAIN, mine, align, keep_artifacts=True)
    register(app, TRAIN, sync_curves)
