"""The floors of the house: imports point downwards, and heavy packages wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys, v2a_dpo
for module in pkgutil.walk_packages(v2a_dpo.__path__, "v2a_dpo."):
    if not module.name.endswith("__main__") and not module.name.startswith("v2a_dpo.cluster."):
        importlib.import_module(module.name)
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""
IMPORT_COMMANDS = 'import sys, v2a_dpo.cli.main; print(" ".join({name.partition(".")[0] for name in sys.modules}))'

HEAVY = {
    "bigvgan",
    "boto3",
    "dvc",
    "gradio",
    "kfp",
    "laion_clap",
    "matplotlib",
    "mlflow",
    "open_clip",
    "pesq",
    "sklearn",
}


def loaded_by(program: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_imports_keep_to_the_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.slow
def test_no_heavy_package_is_loaded_before_it_is_used() -> None:
    loaded = loaded_by(IMPORT_ALL)
    assert "torch" in loaded
    assert not loaded & HEAVY


def test_the_command_line_answers_without_torch() -> None:
    loaded = loaded_by(IMPORT_COMMANDS)
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"torch", "torchaudio", "pyarrow", "av", "scipy"})


def test_stages_that_work_on_tables_start_without_torch() -> None:
    """It takes seconds to import, and a gate or a promotion must not wait for it."""
    stages = ("import_ratings", "vggsound", "mine", "plots", "gate", "register", "promote")
    imports = "".join(f"import v2a_dpo.stages.{name}\n" for name in stages)
    assert "torch" not in loaded_by(f'{imports}import sys\nprint(" ".join(sys.modules))')


def imported_by(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere, within functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


#: What of the library the two rooms above it may know: what runs stages, stages, and the plain words around them.
FOR_ORCHESTRATION = ("stages", "orchestration", "config", "errors", "progress")
ALSO = ("v2a_dpo.artifacts.layout", "v2a_dpo.cluster.train_job.settings")


@pytest.mark.parametrize(
    ("room", "above"), [("components", ("pipelines", "v2a_dpo.cli")), ("pipelines", ("v2a_dpo.cli",))]
)
def test_components_and_pipelines_know_stages_and_nothing_below(room: str, above: tuple[str, ...]) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for module in imported_by(file):
            assert not module.startswith(above), f"{file.name} imports {module}"
            if module.startswith("v2a_dpo."):
                allowed = module.split(".")[1] in FOR_ORCHESTRATION or module in ALSO
                assert allowed, f"{file.name} imports {module}"


def test_the_library_does_not_know_how_it_is_orchestrated() -> None:
    for file in (ROOT / "v2a_dpo").rglob("*.py"):
        if "cli" not in file.parts:
            foreign = ("components", "pipelines") if "cluster" in file.parts else ("components", "pipelines", "kfp")
            assert not any(name.startswith(foreign) for name in imported_by(file)), file
