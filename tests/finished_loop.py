"""A real MLflow on SQLite in the folder of the test, and the artifacts of a small loop: fixtures of several rooms."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.evaluations import write_evaluation
from v2a_dpo.alignment.run.record import Identity, Run, write_run
from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.schema import LABELS, RATINGS, SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import AudioScoreConfig, MineConfig, Params, RegistryConfig, Threshold
from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison, WinRate
from v2a_dpo.stages.mine import mine
from v2a_dpo.stages.train_audioscore import train_audioscore


@pytest.fixture
def mlflow_uri(database_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tracking URI of an empty MLflow; the working folder is the test's."""
    shutil.copy(database_template, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "2")  # so that what `connect` sets does not outlive the test
    return uri


@dataclass
class Loop:
    """The folders of a loop and the arguments of the register stage."""

    root: Path
    params: Params
    arguments: dict[str, Any] = field(default_factory=dict)

    def model(self, name: str, seed: int) -> Path:
        """A model folder with weights drawn from `seed`."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"family": "tiny"}))
        save_file(
            {"weight": np.random.default_rng(seed).normal(size=(8, 8)).astype(np.float32)}, folder / "model.safetensors"
        )
        (folder / ".made-with").write_text("a marker")
        return folder


def comparison(gain: float = 2.0) -> Comparison:
    """A comparison in which the aligned model's IB-score is better by `gain`."""
    base = {"ib_score": Interval(20.0, 19.0, 21.0), "desync_s": Interval(0.5, 0.4, 0.6)}
    aligned = {"ib_score": Interval(20.0 + gain, 19.5 + gain, 20.5 + gain), "desync_s": Interval(0.4, 0.35, 0.45)}
    return Comparison(
        clips=64,
        reference="base",
        systems={"base": base, "aligned": aligned},
        differences={
            "aligned": {
                "ib_score": Difference(gain, gain - 1, gain + 1, p_better=0.001, p_two_sided=0.002),
                "desync_s": Difference(-0.1, -0.2, 0.0, p_better=0.02, p_two_sided=0.04),
            }
        },
        win_rate={"aligned": WinRate(0.7, 0.6, 0.8, p_better=0.001, p_two_sided=0.002, clips=64)},
        counts={"ib_score": 64, "desync_s": 64},
        failed={"base": 0, "aligned": 0},
        bootstrap=BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0),
    )


@pytest.fixture(scope="session")
def finished_loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """AudioScore and pairs by their real stages; models, evaluation and log in the form their stages write."""
    root = tmp_path_factory.mktemp("loop")
    params = Params(
        profile="tiny",
        audioscore=AudioScoreConfig(max_steps=3),
        mine=MineConfig(threshold=Threshold(quantile=0.5), allow_weak_audioscore=True),
        registry=RegistryConfig(experiment="loops", model_name="generator"),
    )
    draw = random.Random(1)
    keys = [(f"clip-{clip:02d}", sample) for clip in range(12) for sample in range(3)]
    scores = [
        {"clip_id": clip, "sample": sample, "missing": None, **{name: draw.random() for name in SCORE_NAMES}}
        for clip, sample in keys
    ]
    ratings = [
        {"clip_id": clip, "sample": sample, "rating": LABELS[sample], "rater": "r", "source": "simulated"}
        for clip, sample in keys
    ]
    for name, schema, rows in (("scores", SCORES, scores), ("ratings", RATINGS, ratings)):
        build_dataset(
            str(root / name),
            schema,
            parameters={},
            inputs={"scorers": "random numbers"},
            tasks=[ShardTask(rows, [])],
            code=NO_CODE,
            make=ShardContent,
        )
    folders = {name: str(root / name) for name in ("scores", "ratings", "audioscore", "pairs")}
    train_audioscore(params, scores=folders["scores"], ratings=folders["ratings"], output=folders["audioscore"])
    mine(params, scores=folders["scores"], audioscore=folders["audioscore"], output=folders["pairs"])

    loop = Loop(root, params)
    log = [
        {
            "step": step,
            "phase": "easy",
            "loss": 0.7 - step / 9000,
            "gradient_norm": None,
            "alarms": ["slow"] * (step % 2),
            "time_ms": 1_700_000_000_000 + 500 * step,
        }
        for step in range(1500)
    ]
    write_evaluation(root / "evaluation")
    for name, content in {
        "evaluation/metrics.json": json.dumps(comparison().to_dict()),
        "alignment/log.jsonl": "".join(json.dumps(record) + "\n" for record in log),
        "alignment/summary.json": "{}",
        "report/index.html": "<!doctype html>\n<p>größer\n",
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    write_run(Run(Identity({}, {}, {}), kept_changes=["flow_dpo"]), str(root / "alignment"))
    loop.arguments = {
        "base": str(loop.model("base", 1)),
        "aligned": str(loop.model("aligned", 2)),
        "evaluation": str(root / "evaluation"),
        "report": str(root / "report" / "index.html"),
        "alignment": str(root / "alignment"),
        "audioscore": folders["audioscore"],
        "pairs": folders["pairs"],
        "training_data": [folders["ratings"]],
        "evaluation_data": [folders["scores"]],
    }
    return loop


@pytest.fixture
def loop(finished_loop: Loop, tmp_path: Path) -> Loop:
    """A copy of the finished loop that the test may change."""
    root = tmp_path / "loop"
    shutil.copytree(finished_loop.root, root)

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(item) for item in value]
        return value.replace(str(finished_loop.root), str(root))

    return Loop(root, finished_loop.params, {name: moved(value) for name, value in finished_loop.arguments.items()})


@pytest.fixture
def metrics_of() -> Callable[..., Comparison]:
    return comparison
