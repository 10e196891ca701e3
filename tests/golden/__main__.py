"""Checks this project's networks against folders of golden numbers: `python -m tests.golden DIR ...`.

A folder's name says what it holds (`mmaudio_vae`, or `mmaudio_vae_other_seed`). Prints the largest difference and the
tolerance of every output; the exit status is 1 if any is exceeded or a case is unknown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch

from tests.golden.format import Result, failed

CHECKS = Path(__file__).parent / "checks"


def check_name(folder: Path) -> str | None:
    """The name of the check for a folder: the longest one that the folder's name is or starts with."""
    names = [file.stem for file in CHECKS.glob("*.py") if not file.stem.startswith("_")]
    fitting = [name for name in names if folder.name == name or folder.name.startswith((name + "_", name + "-"))]
    return max(fitting, key=len, default=None)


def check_file(file: Path) -> Iterator[Result]:
    """The results of one json file of a golden folder; whatever stops them is a failed result."""
    name = check_name(file.resolve().parent)
    if name is None:
        yield failed(file.stem, f"no check is known for a folder called {file.resolve().parent.name!r}")
        return
    check = import_module(f"tests.golden.checks.{name}").check
    try:
        with torch.no_grad():
            yield from check(file)
    except Exception as error:  # any failure of a case is its result; the other cases still run
        yield failed(file.stem, f"{type(error).__name__}: {error}")


def check_folder(folder: Path) -> Iterator[Result]:
    """The results of all json files of a folder; one without any fails."""
    files = sorted(folder.glob("*.json"))
    if not files:
        yield failed("(folder)", "there is no such folder, or it holds no json file")
    for file in files:
        yield from check_file(file)


def main(arguments: list[str] | None = None) -> int:
    """The exit status after printing all results."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    exceeded = 0
    for folder in parser.parse_args(arguments).folders:
        print(f"\n{folder}\n{'largest difference':>18}  {'tolerance':>10}        output")
        for result in check_folder(folder):
            exceeded += not result.passed
            verdict = "ok  " if result.passed else "FAIL"
            note = f"  ({result.note})" if result.note else ""
            print(f"{result.difference:18.3g}  {result.tolerance:10.3g}  {verdict}  {result.name}{note}", flush=True)
    print(f"\n{exceeded} outside the tolerance or unknown." if exceeded else "\nAll inside the tolerance.")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
