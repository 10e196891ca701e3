"""Compares the results of two runs of the loop, value by value: the proof that a refactoring moves nothing.

    python -m v2a_dpo.cli run --params tests/e2e/miniature.yaml --root BEFORE    # on the commit before
    python -m v2a_dpo.cli run --params tests/e2e/miniature.yaml --root AFTER     # on the commit after
    python -m benchmarks.same_results BEFORE AFTER [--rename accuracy=implicit_accuracy]

Compares the evaluation's metrics, every column of the pairs and the training log, without its times. Numbers must be
equal to the last bit, and keys must stand in the same order. `--rename` takes the names that changed: of keys,
columns and files. A name with a dot in front is a path from the top that moved, with all below it; the order of such a
file is not compared. `--added` takes the paths of values that only the run after has. Exits with 0 when all is equal,
1 when something differs, 2 when something is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

RESULTS = ("evaluation/metrics.json", "pairs", "alignment/log.jsonl")
#: Keys of the training log that hold clock times or rates: they differ from run to run.
TIMES = frozenset({"time_ms", "data_wait_s", "pairs_per_s"})
DIFFERENCES_SHOWN = 10

Values = list[tuple[str, str]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line per result and the first differences, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="root of the run before the change")
    parser.add_argument("after", type=Path, help="root of the run after the change")
    parser.add_argument("--rename", type=_rename, nargs="+", default=[], metavar="OLD=NEW")
    parser.add_argument("--added", nargs="+", default=[], metavar="PATH")
    parser.add_argument("--results", nargs="+", default=RESULTS, help="JSON files, JSON lines and Parquet folders")
    options = parser.parse_args(arguments)
    renames = {old: new for old, new in options.rename if not old.startswith(".")}
    moves = {old[1:]: new.removeprefix(".") for old, new in options.rename if old.startswith(".")}
    status = 0
    for result in options.results:
        try:
            before = read_values(options.before / old_path(result, renames), renames)
            after = [value for value in read_values(options.after / result) if value[0] not in options.added]
            if (moved := [(moved_name(name, moves), text) for name, text in before]) != before:
                before, after = sorted(moved), sorted(after)
        except (OSError, ValueError) as error:
            print(f"missing    {result}: {error}")
            status = 2
            continue
        differences = compare(before, after)
        if differences:
            print(f"different  {result}: {len(differences)} differences")
            print("\n".join(f"    {difference}" for difference in differences[:DIFFERENCES_SHOWN]))
            status = max(status, 1)
        else:
            print(f"same       {result}: {len(after):,} values")
    return status


def old_path(result: str, renames: Mapping[str, str]) -> Path:
    """The path of a result in the run before the change; `renames` maps old to new names."""
    old = {new: name for name, new in renames.items()}
    return Path(*(old.get(part, part) for part in Path(result).parts))


def moved_name(name: str, moves: Mapping[str, str]) -> str:
    """The path of a value after the longest of `moves` (old to new path) that it lies at or below."""
    for old in sorted(moves, key=len, reverse=True):
        if name == old or name.startswith(f"{old}."):
            return moves[old] + name.removeprefix(old)
    return name


def read_values(path: Path, renames: Mapping[str, str] | None = None) -> Values:
    """All values of a JSON file, a file of JSON lines or a folder of Parquet shards, in order, with new names.

    Raises OSError when the path is missing and ValueError when it is unreadable or holds no value.
    """
    content: object
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".jsonl":
        content = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        if not (shards := sorted(path.glob("part-*.parquet"))):
            raise FileNotFoundError(f"{path} holds no shards")
        table = pq.ParquetDataset(shards).read()
        types = {field.name: str(field.type) for field in table.schema}
        content = {"type": types, "row": table.to_pylist()}
    if not (values := list(_values(content, renames or {}))):
        raise ValueError(f"{path} holds no values")
    return values


def compare(before: Values, after: Values) -> list[str]:
    """One line per value that was added, lost, changed or moved; empty when all is equal."""
    if before == after:
        return []
    old, new = dict(before), dict(after)
    changed = [
        f"{name}: {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    return changed or ["the same values in another order"]


def _values(content: object, renames: Mapping[str, str], name: str = "") -> Iterator[tuple[str, str]]:
    """Each value as (name, text): names joined by dots, items of lists by their number."""
    items: Iterator[tuple[str, object]]
    if isinstance(content, dict) and content:
        items = ((renames.get(key, key), value) for key, value in content.items() if key not in TIMES)
    elif isinstance(content, list) and content:
        items = ((str(number), value) for number, value in enumerate(content))
    else:
        if name:
            yield name, repr(content)
        return
    for key, value in items:
        yield from _values(value, renames, f"{name}.{key}" if name else key)


def _rename(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form OLD=NEW")
    return old, new


if __name__ == "__main__":
    sys.exit(main())
