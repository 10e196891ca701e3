"""What the documents hold: links, console blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with `language`."""
    return [body for marked, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if marked == language]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def console_lines(page: Path) -> list[str]:
    """The commands of a page's console blocks, continued lines joined; where a block has prompts, the rest is
    output."""
    found = []
    for body in blocks(page, "console"):
        lines = [line.strip() for line in body.replace("\\\n", " ").splitlines() if line.strip()]
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += prompted or lines
    return found


def words(command: str) -> list[str]:
    """The words of a command as the shell sees them, without what surrounds it: comments, `RUN=$(...)`, a path in
    front."""
    inner = re.fullmatch(r"\w+=\$\((.*)\)", command)
    found = shlex.split(inner[1] if inner else command, comments=True)
    while found and re.match(r"[A-Z_]+=", found[0]):
        found = found[1:]
    return [found[0].removeprefix(".venv/bin/"), *found[1:]] if found else []


def spans(page: Path) -> Iterator[str]:
    """The code spans of a page's prose."""
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))
