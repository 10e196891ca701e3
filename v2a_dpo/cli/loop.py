"""Commands about the whole loop: run it in one process, print its results."""

from __future__ import annotations

from typing import Annotated

import typer

from v2a_dpo.cli.options import ROOT, Call, Root, register

LOOP = "Loop"


def run(
    call: Call,
    root: Root = ROOT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the stages with their outputs.")] = False,
) -> str:
    """Run the whole loop of the tiny profile in one process; finished shards are kept when it runs again.

    Example: v2a-dpo run --params configs/tiny.yaml
    """
    from v2a_dpo.orchestration.loop import plan
    from v2a_dpo.orchestration.loop import run as run_loop

    if dry_run:
        return "\n".join(f"{step.name}: {' '.join(step.outputs)}" for step in plan(call.params, root=root))
    return run_loop(call.params, root=root, progress=call.progress)


def results(root: Root = ROOT) -> str:
    """Print the result table of a finished loop and the path of its report.

    Example: v2a-dpo results
    """
    from v2a_dpo.orchestration.loop import results_of

    return results_of(root)


def add_to(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    register(app, LOOP, run, keep_artifacts=True)
    register(app, LOOP, results)
