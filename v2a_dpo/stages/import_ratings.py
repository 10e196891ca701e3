"""Stage: ratings made anywhere, from a CSV file with the columns of RATINGS."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Iterator

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.location import read_bytes
from v2a_dpo.artifacts.schema import RATINGS
from v2a_dpo.artifacts.shards import BuildSummary, ShardContent, ShardTask, build_dataset
from v2a_dpo.audioscore import LABELS
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.preference import HUMAN, SIMULATED
from v2a_dpo.progress import Progress, silent

_COLUMNS = tuple(RATINGS.arrow.names)
_ERRORS_SHOWN = 5


def import_ratings(
    params: Params, *, csv: str, candidates: str, output: str, progress: Progress = silent
) -> BuildSummary:
    """Writes the ratings in the file `csv` to `output`, after checking every line against the candidates that exist.

    The header is `clip_id,sample,rating,rater,source`; `rating` is good, medium or bad in any case, `source` human or
    simulated. Raises UserError naming the line and field of each mistake; nothing is written then.
    """
    known_table = Dataset.open(candidates, "candidates").table(["clip_id", "sample"])
    known = set(zip(known_table["clip_id"].to_pylist(), known_table["sample"].to_pylist(), strict=True))
    rows: dict[tuple[str, int, str], dict[str, object]] = {}
    mistakes: list[str] = []
    for line, fields in _lines(csv):
        try:
            row = _parsed(fields)
            key = (str(row["clip_id"]), int(str(row["sample"])), str(row["rater"]))
            if key[:2] not in known:
                raise ValueError(f"sample: there is no candidate {key[1]} of clip {key[0]!r}")
            if key in rows:
                raise ValueError(f"rater: {key[2]!r} rated this candidate before")
            rows[key] = row
        except ValueError as error:
            mistakes.append(f"line {line}, {error}")
    if mistakes or not rows:
        shown = "; ".join(mistakes[:_ERRORS_SHOWN]) or "it holds no rating"
        more = f"; and {len(mistakes) - _ERRORS_SHOWN} more" if len(mistakes) > _ERRORS_SHOWN else ""
        raise UserError(f"The ratings cannot be imported: {shown}{more}.", where=csv, remedy="Mend these lines.")
    progress("Importing ratings", len(rows), len(rows))
    checksum = file_checksum(csv)
    tasks = [ShardTask([rows[key] for key in sorted(rows)], [checksum])]
    return build_dataset(
        output,
        RATINGS,
        parameters={},
        inputs={"csv": checksum},
        tasks=tasks,
        make=ShardContent,
        code=code_of(import_ratings),
        keep=params.keep_artifacts,
    )


def _lines(csv: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of every rating; raises UserError when the header or the encoding is wrong."""
    try:
        text = read_bytes(csv).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("This is not a UTF-8 text file.", where=csv, remedy="Save it as UTF-8 CSV.") from error
    reader = csv_format.DictReader(io.StringIO(text, newline=""), restval="")
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"The header lacks {', '.join(missing)}.", where=csv, remedy=f"Start the file with {','.join(_COLUMNS)}."
        )
    for fields in reader:
        yield reader.line_num, {name: fields[name].strip() for name in _COLUMNS}


def _parsed(fields: dict[str, str]) -> dict[str, object]:
    """One row of RATINGS; raises ValueError that names the field."""
    row: dict[str, object] = {**fields, "rating": fields["rating"].lower(), "source": fields["source"].lower()}
    for name in ("clip_id", "rater"):
        if not row[name]:
            raise ValueError(f"{name}: it is empty")
    if not fields["sample"].isdecimal():
        raise ValueError(f"sample: {fields['sample']!r} is not a whole number")
    for name, allowed in (("rating", LABELS), ("source", (HUMAN, SIMULATED))):
        if row[name] not in allowed:
            raise ValueError(f"{name}: {fields[name]!r} is none of {', '.join(allowed)}")
    return {**row, "sample": int(fields["sample"])}
