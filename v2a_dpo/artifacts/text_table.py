"""Tables of text, as people, spreadsheets and programs write them: every line is read, or an error names it.

| separated by | quotation marks |
| --- | --- |
| tabs | are text like any other |
| commas or semicolons | hold a field together that has separators in it; one in such a field is doubled |

The first line decides on the separator. Text is UTF-8, or UTF-16 with its byte order mark; with or without gzip.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.location import read_bytes, write_atomically
from v2a_dpo.errors import UserError

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
#: The line that some spreadsheets put in front of the header.
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
_FIX_QUOTES = (
    "Put a field with quotation marks in it in quotation marks and double those inside, "
    "or save the table separated by tabs."
)


@dataclass(frozen=True)
class TableLine:
    """A row: the number of its first line in the file, from 1, and its cells without surrounding space."""

    number: int
    cells: list[str]


def read_table(uri: str) -> list[TableLine]:
    """The rows of the table at `uri` that are not empty, the header among them.

    Empty cells beyond the width of the first row are dropped. Raises UserError for a file that is not text, and one
    that names the line where a quotation mark is not closed or is followed by other text.
    """
    lines = _text(uri).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    stated = _SEPARATOR_LINE.fullmatch(lines[0].strip(" "))
    first = next((number for number in range(bool(stated), len(lines)) if lines[number].strip()), len(lines))
    separator = stated[1] if stated else _separator(lines[first] if first < len(lines) else "")
    split = _split_at_tabs(lines, first) if separator == "\t" else _split_csv(lines, first, separator, uri)
    rows = [TableLine(number, [cell.strip() for cell in cells]) for number, cells in split]
    rows = [row for row in rows if any(row.cells)]
    width = len(_without_empty_end(rows[0].cells)) if rows else 0
    return [TableLine(row.number, row.cells[:width] + _without_empty_end(row.cells[width:])) for row in rows]


def write_csv(uri: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table separated by commas to the file at `uri` in one step; None becomes an empty cell."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(uri, table.getvalue().encode())


def column_names(header: TableLine, uri: str) -> list[str]:
    """The names in a header, in lower case and with `_` for space; raises UserError where two are the same."""
    names = ["_".join(cell.lower().split()) for cell in header.cells]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        what = f"Line {header.number} has two columns {', '.join(twice)}."
        raise UserError(what, where=uri, remedy="Leave one of them out.")
    return names


def _text(uri: str) -> str:
    content = read_bytes(uri)
    try:
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        if content.startswith(_ZIP):
            what = "This is a spreadsheet or a zip file, not text."
            raise UserError(what, where=uri, remedy="Save the table as CSV (UTF-8).")
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"This table cannot be read: {error}.", where=uri, remedy="Save it as UTF-8 text.") from error
    if "\0" in text:
        what = "This table is not UTF-8 text: it contains zeros, as UTF-16 without its mark does."
        raise UserError(what, where=uri, remedy="Save it as UTF-8 text.")
    return text


def _separator(line: str) -> str:
    """The separator of a table with this first line."""
    if "\t" in line:
        return "\t"
    unquoted = re.sub(r'"[^"]*"', "", line)
    return ";" if ";" in unquoted and "," not in unquoted else ","


def _split_at_tabs(lines: list[str], first: int) -> Iterator[tuple[int, list[str]]]:
    for number in range(first, len(lines)):
        yield number + 1, lines[number].split("\t")


def _split_csv(lines: list[str], first: int, separator: str, uri: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with the number of their first line; a field may span lines if none of them looks like a row."""
    # The limit is the whole process's: it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines)) + len(lines)))
    rest = (line + "\n" for line in lines[first:])
    reader = csv.reader(rest, delimiter=separator, skipinitialspace=True, strict=True)
    start, width = first, 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _broken(lines, start, first + reader.line_num, error, uri) from error
        end = first + reader.line_num
        width = width or len(cells)
        swallowed = [number for number in range(start + 1, end) if lines[number].count(separator) >= width - 1]
        if swallowed:
            what = f"Line {start + 1} opens a quotation mark and does not close it"
            raise UserError(f"{what}: line {swallowed[0] + 1} would be part of it.", where=uri, remedy=_FIX_QUOTES)
        yield start + 1, cells
        start = end


def _broken(lines: list[str], start: int, end: int, error: csv.Error, uri: str) -> UserError:
    """The error for a row that starts in line `start` (from 0) and cannot be split; `end` lines were read."""
    if end - start > 1 or "unexpected end" in str(error):
        what = "opens a quotation mark and does not close it"
    else:
        what = "has text behind a closing quotation mark"
    return UserError(f"Line {start + 1} {what}: {_shortened(lines[start])}", where=uri, remedy=_FIX_QUOTES)


def _shortened(line: str) -> str:
    return line if len(line) <= 80 else line[:80] + "..."


def _without_empty_end(cells: list[str]) -> list[str]:
    end = next((index for index in range(len(cells), 0, -1) if cells[index - 1]), 0)
    return cells[:end]
