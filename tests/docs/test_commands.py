"""Every command and option that the documents name exists: checked against the program's own parameters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from tests.docs.pages import PAGES, ROOT, console_lines, spans, words
from v2a_dpo.cli.main import app

PROGRAM = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
#: What looks like a command in a sentence and is a name: an experiment of MLflow.
NAMES = {"v2a-dpo promotions"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def command_of(arguments: list[str]) -> tuple[TyperCommand | TyperGroup, list[str]]:
    """The command that `arguments` name, and what is left for it; fails when there is none."""
    command = PROGRAM
    rest = [word for word in arguments if word != "--debug"]
    while isinstance(command, TyperGroup) and rest:
        if command.invoke_without_command and rest[0].startswith("-"):
            break  # options of its own
        found = command.commands.get(rest[0])
        if found is None:
            pytest.fail(f"there is no command {' '.join(arguments)!r}")
        command, rest = found, rest[1:]
    return command, rest


def options_of(command: TyperCommand | TyperGroup) -> set[str]:
    named = (parameter for parameter in command.params if isinstance(parameter, TyperOption))
    return {"--help"} | {name for option in named for name in (*option.opts, *option.secondary_opts)}


def program_calls(lines: list[str]) -> list[list[str]]:
    """The arguments of each call of the program among `lines`, also of one that another program starts."""
    calls = []
    for line in lines:
        parts = words(line)
        if parts[:1] == ["v2a-dpo"]:
            calls.append(parts[1:])
        elif "v2a_dpo.cli" in parts:
            calls.append(parts[parts.index("v2a_dpo.cli") + 1 :])
    return calls


@each_page
def test_console_blocks_parse_as_the_program_reads_them(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_HOST", "http://localhost:8888")
    for arguments in program_calls(console_lines(page)):
        command, rest = command_of(arguments)
        command.make_context(" ".join(arguments), list(rest))  # reads every option, runs nothing


@each_page
def test_commands_named_in_sentences_exist(page: Path) -> None:
    for span in spans(page):
        if span in NAMES or not re.match(r"(\.venv/bin/)?v2a-dpo [a-z]", span):
            continue
        told = [word for word in span.split()[1:] if not re.fullmatch(r"\.\.\.|…", word)]
        names = [name for word in told for name in word.split("|")] if "|" in span else told
        if "|" in span:  # several commands of one group
            group, _ = command_of(told[:1])
            assert isinstance(group, TyperGroup), span
            assert set(names[1:]) <= group.commands.keys(), span
            continue
        command, rest = command_of(told)
        unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - options_of(command)
        assert not unknown, f"{span}: {unknown}"


@each_page
def test_make_targets_exist(page: Path) -> None:
    named = {parts[1] for line in console_lines(page) if (parts := words(line))[:1] == ["make"] and len(parts) > 1}
    named |= {span.split()[1] for span in spans(page) if re.match(r"make [a-z-]+( |$)", span)}
    assert named <= TARGETS


def test_the_check_finds_a_command_that_is_gone() -> None:
    with pytest.raises(pytest.fail.Exception, match="there is no command"):
        command_of(["annihilate"])
    command, _ = command_of(["results"])
    assert options_of(command) == {"--help", "--root"}
    with pytest.raises(Exception, match="No such option: --rot"):
        command.make_context("results", ["--rot", "artifacts"])
