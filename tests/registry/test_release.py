"""From a registered model to a champion and back, on a real MLflow server with files on S3."""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file, save_file
from scipy.optimize import brentq

from tests.evaluations import made_system, write_evaluation
from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.schema import PAIRS, RATINGS, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import EvaluateConfig, GatesConfig, GeneratorConfig, Params, RegistryConfig, ScoreConfig
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.frechet import frechet_distance
from v2a_dpo.evaluation.metrics import BootstrapSettings
from v2a_dpo.registry.evidence import lineage_of
from v2a_dpo.registry.ledger import Entry, Ledger, LostRaceError, champions
from v2a_dpo.registry.lineage import differences
from v2a_dpo.registry.promotion import history, rollback
from v2a_dpo.registry.versions import Registry, open_registry
from v2a_dpo.stages.gate import gate
from v2a_dpo.stages.promote import promote
from v2a_dpo.stages.register import register

GATES = GatesConfig(min_clips=50, must_improve=["ib_score"], must_not_worsen={"fd_passt": "20%"})


class Workshop:
    """Makes aligned models of chosen quality, registers them under a name of this test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params = Params(
            profile="tiny",
            generator=GeneratorConfig(family="tiny", variant="tiny"),
            score=ScoreConfig(scorers="tiny"),
            gates=GATES,
            evaluate=EvaluateConfig(bootstrap_samples=200, fd_bootstrap_samples=200),
            registry=RegistryConfig(experiment="releases", model_name=f"generator-{uuid.uuid4().hex[:8]}"),
        )
        self.model("base", 0)
        (root / "report.html").write_text("<!doctype html>")
        self._data()

    def model(self, name: str, number: int) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"family": "tiny"}))
        import numpy as np

        save_file({"weight": np.full((4, 4), number, np.float32)}, folder / "model.safetensors")
        return folder

    def _data(self) -> None:
        """Scores, ratings and pairs whose manifests name what they were made from."""
        scorers = self.model("scorers", 9)
        base = folder_fingerprint(self.root / "base")
        keys = [(f"clip-{clip}", sample) for clip in range(6) for sample in range(2)]
        names = ("imagebind", "clap", "desync", "inception", "pesq")
        scores = [
            {"clip_id": clip, "sample": sample, "missing": None, **dict.fromkeys(names, 0.5)} for clip, sample in keys
        ]
        ratings = [
            {"clip_id": clip, "sample": sample, "rating": "good", "rater": "r", "source": "simulated"}
            for clip, sample in keys
        ]
        self._build("scores", SCORES, scores, {"scorers": folder_fingerprint(scorers), "generator": base})
        self._build("ratings", RATINGS, ratings, {})
        pairs = [
            {field.name: _value(field, number) for field in PAIRS.arrow} | {"clip_id": f"clip-{number}"}
            for number in range(6)
        ]
        inputs = {name: Dataset.open(str(self.root / name)).fingerprint for name in ("scores", "ratings")}
        self._build("pairs", PAIRS, pairs, inputs)
        (self.root / "pairs-summary.json").write_text(json.dumps({"pairs": 6, "histogram": []}))

    def _build(self, name: str, schema: Any, rows: list[dict[str, Any]], inputs: dict[str, str]) -> None:
        tasks = [
            ShardTask(rows[:half] if first else rows[half:], [first]) for half in (len(rows) // 2,) for first in (1, 0)
        ]
        build_dataset(
            str(self.root / name), schema, parameters={}, inputs=inputs, tasks=tasks, code=NO_CODE, make=ShardContent
        )

    def register(self, number: int, **quality: Any) -> str:
        """The version of an aligned model of this quality."""
        evaluation = self.root / f"evaluation-{number}"
        write_evaluation(evaluation, **quality)
        decision = self.root / f"gate-{number}.json"
        gate(self.params, evaluation=str(evaluation), output=str(decision))
        registration = register(
            self.params,
            base=str(self.root / "base"),
            aligned=str(self.model(f"aligned-{number}", number)),
            evaluation=str(evaluation),
            report=str(self.root / "report.html"),
            output=str(self.root / "registration.json"),
            pairs=str(self.root / "pairs"),
            training_data=[str(self.root / "ratings")],
            ancestors=[str(self.root / "scores"), str(self.root / "scorers")],
            gate=str(decision),
        )
        return registration.versions["aligned"].version


def _value(field: Any, number: int) -> Any:
    import pyarrow as pa

    if pa.types.is_string(field.type):
        return "easy" if field.name == "phase" else "audioscore"
    if pa.types.is_boolean(field.type):
        return False
    return number if pa.types.is_integer(field.type) else 0.5


@pytest.fixture
def workshop(mlflow_server_uri: str, tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def client(mlflow_server_uri: str) -> MlflowClient:
    return MlflowClient(mlflow_server_uri)


@pytest.mark.slow
def test_a_release_goes_out_by_the_gates_is_refused_overridden_and_rolled_back(
    workshop: Workshop, client: MlflowClient
) -> None:
    params, name = workshop.params, workshop.params.registry.model_name
    good = workshop.register(1, gain=0.05)
    first = promote(params)
    assert (first.promoted, first.version, first.previous) == (True, good, "")
    assert first.decision is not None
    assert first.decision.reference == "its base"
    assert str(client.get_model_version_by_alias(name, "champion").version) == good

    # Better than the base, but not than the champion.
    worse = workshop.register(2, gain=0.03)
    refused = promote(params, version=worse)
    assert not refused.promoted
    assert refused.decision is not None
    assert refused.decision.reference == f"champion version {good}"
    assert "ib_score" in refused.decision.failures[0]
    assert str(client.get_model_version_by_alias(name, "champion").version) == good
    assert "ib_score" in client.get_model_version(name, worse).tags["promotion.refused"]

    better = workshop.register(3, gain=0.08)
    accepted = promote(params, version=better)
    assert (accepted.promoted, accepted.previous) == (True, good)
    assert accepted.decision is not None
    assert accepted.decision.clips == 64
    assert promote(params, version=better).decision is None  # champion already

    # What pleases the ears of one metric and fails the other goes out only by somebody's word.
    broken = workshop.register(4, gain=0.12, spread=2.0)
    assert not promote(params, version=broken).promoted
    with pytest.raises(UserError, match="needs a reason"):
        promote(params, version=broken, override=True)
    forced = promote(params, version=broken, override=True, reason="the customer insists")
    assert forced.promoted
    assert str(client.get_model_version_by_alias(name, "champion").version) == broken

    entry = rollback(params, reason="noise in every clip")
    assert (entry.version, entry.previous) == (better, broken)
    assert str(client.get_model_version_by_alias(name, "champion").version) == better
    rollback(params, reason="and further")
    with pytest.raises(UserError, match="no champion before"):
        rollback(params, reason="further still")

    told = history(params)
    assert told.champion == good
    assert [(item.action, item.version) for item in told.entries] == [
        ("promote", good),
        ("promote", better),
        ("promote", broken),
        ("rollback", better),
        ("rollback", good),
    ]
    override = told.entries[2]
    assert override.override
    assert override.reason == "the customer insists"
    assert override.who
    assert override.failures[0].startswith("fd_passt must not worsen")
    text = str(told)
    assert "OVERRIDE, promoted version" in text
    assert "noise in every clip" in text
    assert "ib_score +" in text


@pytest.mark.slow
def test_another_test_set_or_other_settings_are_refused_with_the_reason(workshop: Workshop) -> None:
    workshop.register(1)
    promote(workshop.params)
    moved = promote(workshop.params, version=workshop.register(2, gain=0.2, first_clip=32))
    assert not moved.promoted
    assert "the test set differs" in str(moved)
    assert "32 of the champion's 64 clips" in str(moved)
    louder = promote(workshop.params, version=workshop.register(3, gain=0.2, guidance=2.0))
    assert not louder.promoted
    assert "the guidance scale differs (4.5 and 2.0)" in str(louder)


@pytest.mark.slow
def test_models_that_other_scorers_judged_are_not_compared(workshop: Workshop) -> None:
    workshop.register(1)
    promote(workshop.params)
    refused = promote(workshop.params, version=workshop.register(2, gain=0.2, scorers="e" * 32))
    assert not refused.promoted
    assert f"the scorers differs ({'f' * 32} and {'e' * 32})" in str(refused)


@pytest.mark.slow
def test_small_losses_of_many_promotions_do_not_add_up(workshop: Workshop) -> None:
    gates = GatesConfig(min_clips=50, must_improve=[], must_not_worsen={"fd_passt": "7%"})
    params = workshop.params.model_copy(update={"gates": gates})
    clip_ids = [f"clip-{number:03d}" for number in range(64)]
    real = made_system(clip_ids, seed=1, gain=0.0, spread=0.0).columns["passt_embedding"]

    def distance(spread: float) -> float:
        return frechet_distance(made_system(clip_ids, seed=2, gain=0.0, spread=spread).columns["passt_embedding"], real)

    outcomes = []
    for number in range(1, 5):
        target = distance(2.0) * 1.045 ** (number - 1)
        spread = brentq(lambda spread, target=target: distance(spread) - target, 1.0, 4.0)
        version = workshop.register(number, spread=spread)
        start = "the base is far better here" if number == 1 else None
        outcomes.append(promote(params, version=version, override=start is not None, reason=start))
    assert [outcome.promoted for outcome in outcomes] == [True, True, False, False]
    third = outcomes[2].decision
    assert third is not None
    assert third.reference == "champion version 3 and the first champion, version 2"
    (failure,) = third.failures
    assert failure.startswith(
        "fd_passt must not worsen by more than 7%: against the first champion, version 2: changed"
    )


@pytest.mark.slow
def test_a_first_champion_of_another_evaluation_is_evaluated_again_or_overridden(workshop: Workshop) -> None:
    params = workshop.params
    first = workshop.register(1, gain=0.02)
    promote(params)
    second = workshop.register(2, gain=0.05, guidance=2.0)
    assert promote(params, version=second, override=True, reason="all models are evaluated at 2 now").promoted
    third = workshop.register(3, gain=0.08, guidance=2.0)
    refused = promote(params, version=third)
    assert not refused.promoted
    assert f"evaluation must be that of the first champion, version {first}" in str(refused)
    assert "the guidance scale differs (4.5 and 2.0)" in str(refused)
    assert f"evaluate version {first} like this one and register it again, or override with a reason" in str(refused)
    assert workshop.register(1, gain=0.02, guidance=2.0) == first
    assert promote(params, version=third).promoted
    assert f"against champion version {second}: ib_score +3" in str(history(params))
    assert "judged by 95% intervals of 200 resamples, 200 for FD" in str(history(params))


def test_a_first_release_by_loose_intervals_is_refused(workshop: Workshop) -> None:
    loose = BootstrapSettings(resamples=200, fd_resamples=200, confidence=0.8, seed=1)
    workshop.register(1, settings=loose)
    refused = promote(workshop.params)
    assert not refused.promoted
    assert refused.decision is not None
    assert [failure.partition(":")[0] for failure in refused.decision.failures] == [
        "intervals at least 95% intervals of 200 resamples, 200 for FD"
    ]


@pytest.mark.slow
def test_a_version_that_fails_on_clips_of_the_champion_is_refused_for_that(workshop: Workshop) -> None:
    workshop.register(1, gain=0.05)
    promote(workshop.params)
    worse = workshop.register(2, gain=0.08, clips=62, failed=["clip-062", "clip-063"])
    refused = promote(workshop.params, version=worse)
    assert refused.decision is not None
    assert refused.decision.failures == ["failed clips at most 0.5% more than the reference: 2 of 64 against 0"]


@pytest.mark.slow
def test_without_a_champion_the_base_has_nothing_to_be_compared_with(workshop: Workshop) -> None:
    workshop.register(1)
    refused = promote(workshop.params, version="base")
    assert not refused.promoted
    assert "the base itself" in str(refused)


def test_a_version_carries_gate_licence_test_set_and_card(workshop: Workshop, client: MlflowClient) -> None:
    version = client.get_model_version(workshop.params.registry.model_name, workshop.register(1, gain=-0.05))
    summary = json.loads((workshop.root / "evaluation-1" / "summary.json").read_text())
    assert version.tags["test_set"] == summary["test_set"]
    assert version.tags["licence.commercial_use"] == "allowed"
    assert version.tags["gate"].startswith("ib_score must improve: changed by -5 [")
    for heading in ("## Data", "## Method", "## Metrics", "## Limits", "## Licence"):
        assert heading in version.description
    assert "IB-score is worse than the base's." in version.description


@pytest.mark.slow
def test_lineage_leads_from_the_alias_to_the_checksums_of_the_pairs_shards(
    workshop: Workshop, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.register(1)
    promote(workshop.params)
    shutil.copytree(workshop.root / "pairs", workshop.root / "kept")
    title, lineage = lineage_of(workshop.params, "champion")
    model = lineage.nodes[0]
    assert model.fingerprint == folder_fingerprint(workshop.root / "aligned-1")
    (pairs,) = [node for node in lineage.nodes if node.fingerprint == model.inputs["pairs"]]
    on_disk = Dataset.open(str(workshop.root / "kept"))
    assert pairs.shards == {shard.name: shard.sha256 for shard in on_disk.shards}
    assert len(pairs.shards) == 2
    (scores,) = [node for node in lineage.nodes if node.fingerprint == pairs.inputs["scores"]]
    (scorers,) = [node for node in lineage.nodes if node.fingerprint == scores.inputs["scorers"]]
    assert scorers.uri == str(workshop.root / "scorers")

    tree = lineage.tree(title)
    for sha256 in pairs.shards.values():
        assert sha256 in tree
    assert tree.index("pairs: pairs") < tree.index("scores: ") < tree.index("scorers: ")

    # MLflow itself says the same: the run that made the version used this data set.
    version = client.get_model_version_by_alias(workshop.params.registry.model_name, "champion")
    experiment = client.get_experiment_by_name("releases")
    query = f"tags.`mlflow.parentRunId` = '{version.tags['loop_run']}'"
    runs = client.search_runs([experiment.experiment_id], query)
    digests = {item.dataset.digest for run in runs for item in run.inputs.dataset_inputs}
    assert pairs.fingerprint in digests

    assert differences(lineage) == []
    shard = next((workshop.root / "pairs").glob("part-*.parquet"))
    content = bytearray(shard.read_bytes())
    content[8] ^= 1
    shard.write_bytes(content)
    (sentence,) = differences(lineage)
    assert shard.name in sentence


@pytest.mark.slow
def test_of_many_racing_promotions_exactly_one_wins_each_round(
    workshop: Workshop, client: MlflowClient, mlflow_server_uri: str
) -> None:
    name = workshop.params.registry.model_name
    workshop.register(1)
    rounds, racers = 12, 4
    won: list[list[str]] = [[] for _ in range(rounds)]
    lost: list[list[str]] = [[] for _ in range(rounds)]
    barrier = threading.Barrier(racers)

    def race(racer: int) -> None:
        ledger = Ledger(MlflowClient(mlflow_server_uri), name)
        for number in range(rounds):
            barrier.wait()
            entry = Entry("promote", str(1 + racer % 2), "", f"racer {racer}")
            try:
                ledger.append(entry, after=number)
                won[number].append(entry.reason)
            except LostRaceError as error:
                lost[number].append(error.winner.reason)

    threads = [threading.Thread(target=race, args=(racer,)) for racer in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Ledger(client, name).entries()
    assert [len(winners) for winners in won] == [1] * rounds
    assert [entry.reason for entry in entries] == [winners[0] for winners in won]
    assert lost == [[winners[0]] * (racers - 1) for winners in won]
    assert str(client.get_model_version_by_alias(name, "champion").version) == champions(entries)[-1]


@pytest.mark.slow
def test_who_comes_second_is_told_who_came_first(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workshop.register(1, gain=0.05)
    second = workshop.register(2, gain=0.08)
    slow_append = Ledger.append

    def overtaken(self: Ledger, entry: Entry, *, after: int) -> Entry:
        """While this promotion was comparing, somebody else promoted the other version."""
        monkeypatch.setattr(Ledger, "append", slow_append)
        promote(workshop.params, version=second)
        return slow_append(self, entry, after=after)

    monkeypatch.setattr(Ledger, "append", overtaken)
    with pytest.raises(LostRaceError, match=f"made version {second} champion") as caught:
        promote(workshop.params, version=first)
    assert "Run the command again" in str(caught.value.remedy)
    assert history(workshop.params).champion == second


def test_two_creators_of_a_registered_model_get_one_ledger(mlflow_server_uri: str) -> None:
    from v2a_dpo.registry.ledger import ensure_registered_model

    name = f"generator-{uuid.uuid4().hex[:8]}"
    barrier = threading.Barrier(4)

    def create() -> None:
        client = MlflowClient(mlflow_server_uri)
        barrier.wait()
        ensure_registered_model(client, name)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = MlflowClient(mlflow_server_uri)
    experiment = client.get_experiment_by_name("v2a-dpo promotions")
    runs = client.search_runs([experiment.experiment_id], f"attributes.run_name = 'promotions of {name}'")
    assert [run.info.run_id for run in runs] == [client.get_registered_model(name).tags["v2a_dpo.ledger_run"]]


@pytest.mark.slow
def test_a_version_moves_to_another_registry_of_the_server_and_to_another_server(
    workshop: Workshop, client: MlflowClient, database_template: Path, tmp_path: Path
) -> None:
    params, name = workshop.params, workshop.params.registry.model_name
    workshop.register(1)
    near = f"{name}-production"
    moved = promote(params, to_registry=near)
    assert (moved.promoted, moved.model_name, moved.version) == (True, near, "1")
    copy = client.get_model_version_by_alias(near, "champion")
    assert copy.tags["copied.from"].endswith(f"/{name}")
    assert copy.tags["loop_run"] == client.get_model_version_by_alias(name, "candidate").tags["loop_run"]
    assert promote(params, to_registry=near).decision is None
    assert not history(params).entries  # nothing was promoted at home

    shutil.copy(database_template, tmp_path / "far.db")
    far = f"sqlite:///{tmp_path}/far.db"
    sent = promote(params, to_registry=f"{far}/{name}")
    assert sent.promoted
    registry = open_registry(params, uri=far)
    version = registry.version("champion")
    folder = registry.download(version, tmp_path / "fetched")
    (weights,) = folder.rglob("model.safetensors")
    assert load_file(weights)["weight"][0, 0] == 1.0
    assert version.tags["licence.commercial_use"] == "allowed"
    better = workshop.register(2, gain=0.08)
    assert promote(params, version=better, to_registry=f"{far}/{name}").previous == version.version
    with pytest.raises(UserError, match="names no registry"):
        promote(params, to_registry="elsewhere/")


@pytest.mark.slow
def test_an_unknown_version_is_the_users_error(workshop: Workshop) -> None:
    with pytest.raises(UserError, match="no registered model"):
        history(workshop.params)
    workshop.register(1)
    for missing in ("champion", "99"):
        with pytest.raises(UserError, match="has no version"):
            promote(workshop.params, version=missing)
    assert isinstance(open_registry(workshop.params), Registry)
