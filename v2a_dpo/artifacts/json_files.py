"""JSON files: the one form in which the program writes them, and an error that names a damaged one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from v2a_dpo.artifacts.location import read_bytes, write_atomically
from v2a_dpo.errors import UserError


def json_text(content: Any) -> str:
    """`content` as JSON, indented by 2, with a line end. Raises ValueError for NaN and infinity, which are not JSON."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(uri: str | Path, content: Any) -> None:
    """Writes `content` to the file at `uri` in one step; raises UserError as `write_atomically` does."""
    write_atomically(uri, json_text(content).encode())


def read_json(uri: str | Path) -> Any:
    """The content of the JSON file at `uri`. Raises UserError when it is missing, cannot be reached, or is damaged."""
    content = read_bytes(uri)
    try:
        return json.loads(content)
    except ValueError as error:
        remedy = "Delete the file and run the stage that writes it again."
        raise UserError(f"This file is damaged, it is not JSON: {error}.", where=str(uri), remedy=remedy) from error
