"""Stages as a workflow engine calls them: plain values in, log lines and small descriptions out."""

import json
from types import SimpleNamespace

import pytest

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.schema import RATINGS
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.orchestration.shards import plan_shards
from v2a_dpo.orchestration.task import flat_numbers, run_stage, shards_of
from v2a_dpo.params import params_from, values_of
from v2a_dpo.progress import ProgressLines

TWO_EACH = {"orchestration": {"shards_per_task": 2}}


def artifact(tmp_path, name="artifact"):
    return SimpleNamespace(path=str(tmp_path / name), metadata={})


@pytest.fixture
def ratings(tmp_path):
    """A finished data set of five shards."""
    rows = [{"clip_id": "a", "sample": 0, "rating": "good", "rater": "r", "source": "human"}]
    folder = str(tmp_path / "ratings")
    tasks = [ShardTask(rows, [str(index)]) for index in range(5)]
    build_dataset(folder, RATINGS, parameters={}, inputs={}, tasks=tasks, code=NO_CODE, make=ShardContent)
    return folder


def test_shards_are_dealt_out_and_understood(ratings, capsys):
    chunks = run_stage(plan_shards, {"params": TWO_EACH, "data": ratings, "videos": ""})
    assert chunks == ["0-1", "2-3", "4-4"]
    assert [list(shards_of(chunk)) for chunk in chunks] == [[0, 1], [2, 3], [4]]
    assert "Planning: 5 of 5" in capsys.readouterr().out


def test_planning_refuses_a_task_without_shards(ratings):
    with pytest.raises(UserError, match=r"orchestration\.shards_per_task"):
        run_stage(plan_shards, {"params": {"orchestration": {"shards_per_task": 0}}, "data": ratings})


def test_a_data_set_is_described_by_its_manifest(tmp_path, ratings):
    made = artifact(tmp_path)
    run_stage(plan_shards, {"params": {}, "data": ratings}, data=(ratings, made))
    assert made.metadata["rows"] == made.metadata["shards"] == 5
    assert made.metadata["schema"] == "ratings"
    assert json.loads((tmp_path / "artifact").read_text())["schema_name"] == "ratings"


def test_numbers_are_named_by_their_path_and_intervals_stand_beside_them():
    content = {"base": {"fd": {"value": 2, "low": 1.5, "high": 3.0}}, "clips": 7, "note": "text", "passed": True}
    assert flat_numbers(content) == {"base/fd": 2.0, "base/fd/low": 1.5, "base/fd/high": 3.0, "clips": 7.0}


def test_parameters_survive_an_engine_that_knows_only_doubles_and_no_null():
    params = Params.model_validate({"mine": {"threshold": {"quantile": 0.25}}, "generate": {"clips_per_batch": 4}})
    as_doubles = json.loads(json.dumps(values_of(params)), parse_int=float)
    assert "null" not in json.dumps(as_doubles)
    assert params_from(as_doubles) == params


def test_wrong_parameters_are_named():
    with pytest.raises(UserError, match=r"align\.beta"):
        run_stage(plan_shards, {"params": {"align": {"beta": -1}}, "data": "x"})


def test_progress_is_a_line_now_and_then_and_one_at_the_end(capsys):
    now_s = iter([0, 1, 14, 16, 17]).__next__
    lines = ProgressLines(every_s=15, clock=lambda: float(now_s()))
    for done in range(1, 6):
        lines("Making", done, 5)
    assert capsys.readouterr().out.splitlines() == ["Making: 1 of 5", "Making: 4 of 5", "Making: 5 of 5"]
