"""The rules of the house: what a stage looks like, what belongs to which room, one definition for each public name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "v2a_dpo"
STAGES = sorted(path for path in (LIBRARY / "stages").glob("*.py") if path.stem != "__init__")
#: Stages of the tiny profile or of a table of VGGSound, which a run on Kubeflow is given ready-made or does not need.
NOT_ON_KUBEFLOW = {"vggsound", "plots"}
#: Where a generator may be named by its module: its own room, the catalogs, and the small generator that is an MMAudio.
NAMES_GENERATORS = ("models/", "weights/", "tiny/", "config.py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def public(body: list[ast.stmt], kind: type[ast.stmt] | tuple[type[ast.stmt], ...]) -> list[str]:
    names = [node.name for node in body if isinstance(node, kind)]  # type: ignore[attr-defined]
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_one_function_of_its_file_s_name(path: Path) -> None:
    body = tree(path).body
    assert public(body, ast.FunctionDef) == [path.stem]
    (stage,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == path.stem)
    assert [argument.arg for argument in stage.args.args] == ["params"]
    assert stage.args.kwonlyargs[-1].arg == "progress"
    assert ast.get_docstring(stage)


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_read_on_two_pages(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 140


def test_no_stage_imports_a_stage_but_the_guidance_curve() -> None:
    importing = {path.stem for path in STAGES if any(name.startswith("v2a_dpo.stages") for name in imports(path))}
    assert importing == {"guidance"}


def test_stages_are_commands_stages_of_dvc_and_components() -> None:
    names = {path.stem for path in STAGES}
    commands = {name for path in (LIBRARY / "cli").glob("*.py") for name in public(tree(path).body, ast.FunctionDef)}
    assert names <= commands
    used_by_dvc = set(re.findall(r"v2a-dpo ([a-z-]+)", (ROOT / "dvc.yaml").read_text()))
    dvc = {name.replace("-", "_") for name in used_by_dvc}
    assert names - {"promote"} <= dvc  # who goes out is decided by a person, not by a build
    called = {
        name.removeprefix("v2a_dpo.stages.").partition(".")[0]
        for path in (ROOT / "components").glob("*.py")
        for name in imports(path)
        if name.startswith("v2a_dpo.stages.")
    }
    assert called == names - NOT_ON_KUBEFLOW


def test_no_module_outside_its_room_names_a_generator() -> None:
    naming = {
        path.relative_to(LIBRARY).as_posix()
        for path in LIBRARY.rglob("*.py")
        if any(name.startswith(("v2a_dpo.models.mmaudio", "v2a_dpo.models.frieren")) for name in imports(path))
    }
    assert [name for name in sorted(naming) if not name.startswith(NAMES_GENERATORS)] == []


def test_a_public_name_has_one_definition() -> None:
    places = defaultdict(list)
    for path in LIBRARY.rglob("*.py"):
        for node in tree(path).body:
            names = []
            if isinstance(node, ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            for name in names:
                if not name.startswith("_"):
                    places[name].append(path.relative_to(LIBRARY).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_room_has_its_tests() -> None:
    rooms = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert {room for room in rooms if not any((ROOT / "tests" / room).rglob("test_*.py"))} == set()
