"""The entry point: global options, and errors turned into one paragraph and an exit status."""

from __future__ import annotations

import sys

import typer

from v2a_dpo.artifacts.causes import local_cause
from v2a_dpo.cli import config, data, evaluation, loop, preference, release, serving, weights
from v2a_dpo.cli.console import show_error
from v2a_dpo.cli.kubeflow import commands as kubeflow
from v2a_dpo.errors import UserError

app = typer.Typer(
    name="v2a-dpo",
    help=(
        "Aligns video-to-audio generators with human preferences: candidates, five scores, AudioScore, "
        "preference pairs, curriculum Flow-DPO, evaluation and the registry.\n\n"
        "Example: v2a-dpo run --params configs/tiny.yaml"
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for commands in (loop, config, data, preference, evaluation, release, serving, weights, kubeflow):
    commands.add_to(app)


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Options of every command."""


def main() -> None:
    """Runs the command line.

    Exit status: 0 done, 1 an unexpected error, 2 a mistake of the user, 3 refused by the gates, 130 stopped by Ctrl-C.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        app()
    except UserError as error:
        if debug:
            raise
        show_error(error)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        if cause := local_cause(error):
            show_error(UserError(f"A file cannot be read or written: {cause.what}.", remedy=cause.remedy))
            sys.exit(2)
        remedy = "Run again with `v2a-dpo --debug ...` for the traceback; finished work is kept."
        show_error(UserError(f"Unexpected {type(error).__name__}: {error}", remedy=remedy))
        sys.exit(1)
