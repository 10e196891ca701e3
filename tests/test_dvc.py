"""`dvc.yaml` as DVC resolves it with each preset: the right stages, valid commands, paths that agree."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import typer
import yaml

from v2a_dpo.artifacts.code import source_files
from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.cli.main import app
from v2a_dpo.models.catalog import FAMILIES
from v2a_dpo.orchestration.loop import plan
from v2a_dpo.params import load_params, values_of
from v2a_dpo.scoring.catalog import KINDS

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))
TINY = {"world@tiny", "pretrain@tiny", "annotate@tiny"}
REAL = {"vggsound@paper", "import-ratings@people"}


@pytest.fixture(scope="module", params=PRESETS, ids=lambda path: path.stem)
def stages(request, tmp_path_factory):
    """The preset's name and its stages by name."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("repository")
    Repo.init(str(folder), no_scm=True).close()
    config = (ROOT / ".dvc" / "config").read_text()
    (folder / ".dvc" / "config").write_text(config.replace("[core]", "[core]\n    no_scm = true"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(values_of(load_params(request.param))))
    with Repo(str(folder)) as repo:
        yield request.param.stem, {stage.name: stage for stage in repo.index.stages}


def test_a_generator_has_the_stages_that_bring_its_data(stages):
    preset, by_name = stages
    present, absent = (TINY, REAL) if preset == "tiny" else (REAL, TINY)
    assert present <= by_name.keys()
    assert not absent & by_name.keys()
    assert {f"prepare@{split}" for split in SPLITS} | {"align", "evaluate", "register", "plots"} <= by_name.keys()


def test_every_command_is_one_that_the_command_line_takes(stages):
    _, by_name = stages
    group = typer.main.get_command(app)
    for stage in by_name.values():
        for command in [stage.cmd] if isinstance(stage.cmd, str) else stage.cmd:
            program, name, *arguments = shlex.split(command)
            assert program == "v2a-dpo"
            group.commands[name].make_context(name, arguments)  # raises for unknown and missing options


def entry_points(command):
    """Where the code of a stage's command starts: its stage, and every implementation that it may choose."""
    words = shlex.split(command)[1:]
    name = words[0].replace("-", "_")
    generators = [f"{module}:load" for module in FAMILIES.values()]
    scorers = [f"{module}:{name}" for module in KINDS.values() for name in ("load_scorers", "load_taggers")]
    chosen = {"prepare": generators, "generate": generators, "align": generators}
    chosen |= {"score": scorers, "evaluate": scorers, "guidance": generators + scorers}
    return [f"v2a_dpo.stages.{name}:{name}", *chosen.get(name, [])]


def test_stages_depend_on_all_code_that_they_import_and_on_no_other(stages):
    _, by_name = stages
    for stage in by_name.values():
        commands = [stage.cmd] if isinstance(stage.cmd, str) else stage.cmd
        roots = [root for command in commands for root in entry_points(command)]
        used = [file.relative_to(ROOT).as_posix() for file in source_files(*roots)]
        named = [dep.def_path for dep in stage.deps if dep.def_path.startswith("v2a_dpo")]
        assert [file for file in used if not any(file == dep or file.startswith(f"{dep}/") for dep in named)] == []
        assert [dep for dep in named if not any(file == dep or file.startswith(f"{dep}/") for file in used)] == []


def test_what_uses_frozen_weights_depends_on_them(stages):
    preset, by_name = stages
    users = [
        stage
        for name, stage in by_name.items()
        if name.split("@")[0] in ("prepare", "generate", "test", "evaluate", "guidance")
    ]
    assert len(users) == 9
    weights = "artifacts/pretrained" if preset == "tiny" else "weights"
    assert all(weights in [dep.def_path for dep in stage.deps] for stage in users)


def test_code_that_stages_depend_on_exists_and_other_inputs_are_made_or_brought(stages):
    preset, by_name = stages
    made = [output.def_path for stage in by_name.values() for output in stage.outs]
    brought = ("data/", "weights") if preset != "tiny" else ()
    for stage in by_name.values():
        for path in (dep.def_path for dep in stage.deps):
            if path.startswith("v2a_dpo"):
                assert (ROOT / path).exists(), f"{stage.name}: {path}"
            elif not path.startswith("params.yaml"):
                assert any(path == out or path.startswith(f"{out}/") for out in made) or path.startswith(brought), path


def test_dvc_keeps_the_artifacts_of_the_tiny_loop_where_run_keeps_them(stages):
    preset, by_name = stages
    made = {output.def_path for stage in by_name.values() for output in stage.outs}
    layout = Layout()
    if preset != "tiny":
        assert not {layout.world, layout.pretrained} & made
        return
    planned = {path for step in plan(load_params(ROOT / "params.yaml"), root=layout.root) for path in step.outputs}
    folder = str(Path(layout.report).parent)  # DVC keeps the folder of the report
    assert {folder if path == layout.report else path for path in planned} | {"artifacts/pairs-summary.json"} == made
    settings = load_params(ROOT / "params.yaml").dvc
    assert settings is not None
    assert (settings.generator, settings.scorers) == (layout.base, layout.scorers)


def test_declared_metrics_and_plots_are_made_by_a_stage():
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    files = set(content["metrics"]) | {
        file for plot in content["plots"] for item in plot.values() for file in item["y"]
    }
    folders = {f"artifacts/{name}" for name in ("evaluation", "alignment", "plots")}
    assert all(str(Path(file).parent) in folders or file == "artifacts/pairs-summary.json" for file in files)
