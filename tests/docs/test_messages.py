"""The messages on the troubleshooting page are those of the program, and its Python blocks are Python."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks

PAGE = ROOT / "docs" / "troubleshooting.md"
#: Sections about messages of other programs.
OTHERS = ("Setting up",)


def quoted() -> list[str]:
    """The sentences in the first column of the page's tables."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    rows = "\n".join(section for section in sections if not section.startswith(OTHERS))
    cells = re.findall(r"^\| (.+?) \| ", rows, re.MULTILINE)
    found = [span for cell in cells for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", cell)]
    return [span for span in found if re.match(r"['A-Z]|mmaudio", span) and span.endswith(".")]


def patterns() -> list[re.Pattern[str]]:
    """Every text that the program may show, with its gaps as wildcards."""
    found = set()
    for file in (ROOT / "v2a_dpo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in node.values]
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                found.add(re.escape(node.value))
    literal = (text for text in found if len(text.replace(".+", "")) >= 8)
    return [re.compile(text.removesuffix(r"\.")) for text in literal]


def test_every_quoted_message_is_one_of_the_program() -> None:
    known, messages = patterns(), quoted()
    assert len(messages) > 10
    gaps = {message: re.sub(r"\.{3,4}", "x", message).removesuffix(".") for message in messages}
    assert not [message for message, text in gaps.items() if not any(each.fullmatch(text) for each in known)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
