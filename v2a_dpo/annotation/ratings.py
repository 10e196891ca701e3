"""Ratings in a table of text: parsing, and checking against the candidates that exist."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import zip_longest

from v2a_dpo.artifacts.schema import HUMAN, LABELS, RATINGS, SIMULATED
from v2a_dpo.artifacts.text_table import TableLine, column_names, read_table
from v2a_dpo.errors import UserError

_COLUMNS = tuple(RATINGS.arrow.names)
_ERRORS_SHOWN = 5
#: Spreadsheets write 0 as 0.0, or as 0,0.
_WHOLE_NUMBER = re.compile(r"([0-9]{1,9})(?:[.,]0+)?")


def read_ratings(csv: str, candidates: Collection[tuple[str, int]]) -> list[dict[str, object]]:
    """The rows of RATINGS in the file `csv`, sorted by clip, sample and rater.

    The header is `clip_id,sample,rating,rater,source` in any order, with any other columns; `rating` is good, medium or
    bad in any case, `source` human or simulated. `candidates` are the (clip id, sample) that may be rated. Raises
    UserError that names the line and field of each mistake.
    """
    rows: dict[tuple[str, int, str], dict[str, object]] = {}
    mistakes: list[str] = []
    names, lines = _table(csv)
    for line in lines:
        try:
            row = _parsed(_fields(names, line))
            key = (str(row["clip_id"]), int(str(row["sample"])), str(row["rater"]))
            if key[:2] not in candidates:
                raise ValueError(f"sample: there is no candidate {key[1]} of clip {key[0]!r}")
            if key in rows:
                raise ValueError(f"rater: {key[2]!r} rated this candidate before")
            rows[key] = row
        except ValueError as error:
            mistakes.append(f"line {line.number}, {error}")
    if mistakes:
        shown = "; ".join(mistakes[:_ERRORS_SHOWN])
        more = f"; and {len(mistakes) - _ERRORS_SHOWN} more" if len(mistakes) > _ERRORS_SHOWN else ""
        raise UserError(f"The ratings cannot be imported: {shown}{more}.", where=csv, remedy="Fix these lines.")
    return [rows[key] for key in sorted(rows)]


def _table(csv: str) -> tuple[list[str], list[TableLine]]:
    """The column names and the lines below them; raises UserError for missing columns or without any line."""
    header, *lines = read_table(csv) or [TableLine(1, [])]
    names = column_names(header, csv)
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise UserError(
            f"The header lacks {', '.join(missing)}; it is: {', '.join(names) or 'empty'}.",
            where=csv,
            remedy=f"Start the file with {','.join(_COLUMNS)}.",
        )
    if not lines:
        raise UserError("The file holds no rating but a header.", where=csv, remedy="Give each rating a line.")
    return names, lines


def _fields(names: list[str], line: TableLine) -> dict[str, str]:
    """The line's cells by column; a short line leaves the last ones empty. Raises ValueError for one too long."""
    if len(line.cells) > len(names):
        raise ValueError(f"it has {len(line.cells)} cells where {len(names)} are expected")
    cells = dict(zip_longest(names, line.cells, fillvalue=""))
    return {name: cells[name] for name in _COLUMNS}


def _parsed(fields: dict[str, str]) -> dict[str, object]:
    """One row of RATINGS; raises ValueError that names the field."""
    row: dict[str, object] = {**fields, "rating": fields["rating"].lower(), "source": fields["source"].lower()}
    for name in ("clip_id", "rater"):
        if not row[name]:
            raise ValueError(f"{name}: it is empty")
    sample = _WHOLE_NUMBER.fullmatch(fields["sample"])
    if not sample:
        raise ValueError(f"sample: {fields['sample']!r} is not a whole number")
    for name, allowed in (("rating", LABELS), ("source", (HUMAN, SIMULATED))):
        if row[name] not in allowed:
            raise ValueError(f"{name}: {fields[name]!r} is none of {', '.join(allowed)}")
    return {**row, "sample": int(sample[1])}
