"""Every stage finds the artifacts of the stage before it without a path: real commands, with their stages recorded."""

from __future__ import annotations

from functools import partial
from inspect import isfunction, signature

import pytest
import typer
from typer.testing import CliRunner

from tests.test_dvc import ROOT
from v2a_dpo.artifacts.layout import SPLITS
from v2a_dpo.cli import data, evaluation, preference, release
from v2a_dpo.cli.main import app
from v2a_dpo.orchestration.loop import plan
from v2a_dpo.params import load_params

TINY = ["--params", str(ROOT / "configs" / "tiny.yaml")]
#: What the loop gives itself and a person does not: how it reports, and how an earlier alignment is treated.
OTHERS = {"progress", "start_anew", "live"}


def planned(root):
    """The stage's name and its arguments, of each step of the loop."""
    for step in plan(load_params(TINY[1]), root=root):
        if isinstance(step.run, partial):
            yield step.name, step.run.func, step.run.keywords


@pytest.fixture
def recorded(monkeypatch):
    """Calls a command and returns what it gives to the stage `function`, which does not run."""

    def call(function, *arguments):
        given = {}
        monkeypatch.setattr(f"{function.__module__}.{function.__name__}", lambda *_, **named: given.update(named))
        parameters = [] if arguments[0] == "plots" else TINY
        done = CliRunner().invoke(app, [*arguments, *parameters], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return given

    return call


def words_of(step):
    """The command of a step of the loop: `generate test-base` is `generate --name test-base`."""
    stage, *name = step.split()
    return [stage] + (["--split" if stage == "prepare" else "--name", *name] if name else [])


STEPS = [step for step, *_ in planned("artifacts")]


@pytest.fixture
def root(tmp_path):
    """A folder where everything that the loop makes exists, since optional inputs count only where they exist."""
    for step in plan(load_params(TINY[1]), root=str(tmp_path)):
        for output in step.outputs:
            (tmp_path / output).mkdir(parents=True, exist_ok=True)
    for name in ("scorers", "generator"):
        (tmp_path / "pretrained" / name).mkdir()
    for split in SPLITS:
        (tmp_path / "world" / split).mkdir()
        (tmp_path / "world" / split / "captions.csv").touch()
    return str(tmp_path)


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_without_paths_reads_and_writes_what_the_loop_does(step, root, recorded):
    _, function, arguments = next(each for each in planned(root) if each[0] == step)
    known = {"report_of": {"root": root, "output": f"{root}/report/index.html"}}
    expected = known.get(function.__name__, arguments)
    given = recorded(function, *words_of(step), "--root", root)
    if step == "generate annotation":
        assert given["candidates"] is None
    same = {name: value for name, value in given.items() if name in expected and name not in OTHERS}
    assert same == {name: value for name, value in expected.items() if name not in OTHERS}
    beyond = {name: value for name, value in given.items() if name not in expected and name not in OTHERS}
    assert not [value for value in beyond.values() if value], beyond


def test_an_explicit_path_wins_and_leaves_the_other_defaults(recorded):
    from v2a_dpo.stages.score import score

    given = recorded(score, "score", "--name", "test-base", "--root", "s3://b/loop", "--scorers", "NAME/weights")
    assert given["scorers"] == "NAME/weights", "what a person writes is taken literally"
    assert given["clips"] == "s3://b/loop/clips/test"
    assert given["output"] == "s3://b/loop/scores/test-base"


def test_a_split_of_ones_own_may_have_a_hyphen(recorded):
    from v2a_dpo.stages.generate import generate

    given = recorded(generate, "generate", "--name", "my-clips", "--root", "r")
    assert (given["conditions"], given["output"]) == ("r/conditions/my-clips", "r/candidates/my-clips")
    assert (given["generator"], given["candidates"]) == ("r/pretrained/generator", None)
    given = recorded(generate, "generate", "--name", "test-aligned", "--root", "r")
    assert (given["conditions"], given["output"]) == ("r/conditions/test", "r/candidates/test-aligned")
    assert (given["generator"], given["candidates"]) == ("r/aligned", 1)


def test_an_optional_input_counts_only_where_it_exists(recorded, tmp_path):
    from v2a_dpo.stages.mine import mine

    assert recorded(mine, "mine", "--root", str(tmp_path))["ratings"] is None
    (tmp_path / "ratings").mkdir()
    assert recorded(mine, "mine", "--root", str(tmp_path))["ratings"] == f"{tmp_path}/ratings"
    assert recorded(mine, "mine", "--root", str(tmp_path), "--ratings", "none/here")["ratings"] == "none/here"


def test_captions_beside_the_given_videos_are_read_and_not_those_of_the_world(recorded, tmp_path):
    from v2a_dpo.stages.prepare import prepare

    (tmp_path / "world" / "mine").mkdir(parents=True)
    (tmp_path / "world" / "mine" / "captions.csv").touch()
    (tmp_path / "videos").mkdir()
    command = ("prepare", "--split", "mine", "--root", str(tmp_path))
    assert recorded(prepare, *command)["captions"] == f"{tmp_path}/world/mine/captions.csv"
    assert recorded(prepare, *command, "--videos", str(tmp_path / "videos"))["captions"] is None
    (tmp_path / "videos" / "captions.csv").touch()
    given = recorded(prepare, *command, "--videos", str(tmp_path / "videos"))
    assert given["captions"] == f"{tmp_path}/videos/captions.csv"


@pytest.mark.parametrize(("family", "events"), [("tiny", "ROOT/world/events.json"), ("mmaudio", None)])
def test_only_the_tiny_profile_is_rated_by_its_events(family, events, recorded, tmp_path):
    """An old world beside real clips must not bring the simulated rater back."""
    from v2a_dpo.stages.evaluate import evaluate
    from v2a_dpo.stages.report import report

    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "events.json").touch()
    given = recorded(evaluate, "evaluate", "--root", str(tmp_path), "--set", f"generator.family={family}")
    assert given["events"] == (events and events.replace("ROOT", str(tmp_path)))
    given = recorded(report, "report", "--root", str(tmp_path), "--set", f"generator.family={family}")
    assert given["events"] == (events and events.replace("ROOT", str(tmp_path)))


def test_every_default_path_is_shown_and_has_a_root():
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        defaults = [str(each.default) for each in command.params]
        assert any("ROOT" in each for each in defaults) <= any(each.name == "root" for each in command.params), name
    shown = CliRunner().invoke(app, ["mine", "--help"], env={"COLUMNS": "200"}).stdout
    assert "[default: ROOT/scores/preference]" in shown
    assert "[default: artifacts]" in shown


@pytest.mark.parametrize(
    "command",
    [
        command
        for module in (data, preference, evaluation, release)
        for command in vars(module).values()
        if isfunction(command) and command.__annotations__.get("return") == "Stage"
    ],
    ids=lambda command: command.__name__,
)
def test_the_options_of_a_command_are_parameters_of_its_stage(command):
    options = dict.fromkeys(signature(command).parameters)
    stage = command(**options)
    signature(stage).bind("params", **options, progress=None)
