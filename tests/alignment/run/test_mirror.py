"""An alignment whose log is on S3: a machine that disappears, a service that does, and what an upload leaves half
done."""

import json
import signal
import tempfile
import threading
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.alignment.launch import PARAMS, finish, start, timeless
from v2a_dpo.alignment.run.log import LOG, RUN
from v2a_dpo.alignment.run.mirror import Mirror
from v2a_dpo.alignment.run.record import Identity, read_run
from v2a_dpo.artifacts.location import list_names, read_bytes, tree_names
from v2a_dpo.errors import UserError
from v2a_dpo.stages.align import align


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Makes the temporary directory of this process a new one, as on a fresh machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def checkpoint(folder: Path, step: int) -> Path:
    """A small file with the name of a checkpoint."""
    made = folder / f"checkpoint-{step:08d}.pt"
    made.write_text(f"state of {step}")
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / LOG).write_bytes(b"one\ntwo\nthree\n")
    return tmp_path


@pytest.mark.slow
def test_a_killed_machine_is_replaced_by_a_fresh_one_with_the_same_final_bytes(problem, bucket, tmp_path, scratch):
    local = problem.arguments("never killed")
    align(PARAMS, **local)
    remote = {**problem.arguments("killed"), "log": f"{bucket}/loop/alignment", "output": f"{bucket}/loop/aligned"}
    lost = tmp_path / "lost machine"
    lost.mkdir()
    codes = finish(start(remote, kill_at=13, environment={"TMPDIR": str(lost)}))
    assert codes == [-signal.SIGKILL]
    assert any(lost.rglob("checkpoint-*")), "the work lay in the scratch folder"
    uploaded = {name for name in tree_names(remote["log"]) if name.startswith("checkpoint-")}
    assert uploaded & {"checkpoint-00000008.pt", "checkpoint-00000012.pt"}, "12 was perhaps under way"

    steps = []
    summary = align(PARAMS, **remote, on_record=lambda record: steps.append(record["step"]))
    assert steps[0] in (8, 12)
    weights = Path(str(local["output"]), "model.safetensors").read_bytes()
    assert read_bytes(f"{remote['output']}/model.safetensors") == weights
    (tmp_path / LOG).write_bytes(read_bytes(f"{remote['log']}/{LOG}"))
    assert timeless(tmp_path / LOG) == timeless(Path(str(local["log"]), LOG))
    suffixes = [name.rpartition(".")[2] for name in tree_names(remote["log"])]
    assert sorted(suffixes) == ["f32", "json", "json", "jsonl"]
    assert not list(scratch.glob("v2a-dpo-*/*")), "the scratch folder of a finished run is deleted"

    again = align(PARAMS, **remote, on_record=lambda record: steps.append("again"))
    assert again == summary
    assert "again" not in steps


@pytest.mark.slow
def test_another_run_at_the_prefix_is_refused_and_on_request_moved_aside_whole(problem, bucket, scratch):
    arguments = {**problem.arguments("changed on s3"), "log": f"{bucket}/log", "output": f"{bucket}/aligned"}

    def stop(record):
        if record["step"] == 9:
            raise KeyboardInterrupt

    other = PARAMS.model_copy(update={"align": PARAMS.align.model_copy(update={"beta": 50.0})})
    with pytest.raises(KeyboardInterrupt):
        align(other, **arguments, on_record=stop)
    earlier = {name: read_bytes(f"{bucket}/log/{name}") for name in tree_names(arguments["log"]) if ".f32" not in name}
    assert {RUN, LOG, "checkpoint-00000008.pt"} <= earlier.keys()
    with pytest.raises(UserError, match=r"8 steps in its checkpoint, .*: align.beta 50.0 -> 100.0\..*--start-anew"):
        align(PARAMS, **arguments)
    assert (
        earlier.items() <= {name: read_bytes(f"{bucket}/log/{name}") for name in tree_names(arguments["log"])}.items()
    )

    steps = []
    align(PARAMS, **arguments, start_anew=True, on_record=lambda record: steps.append(record["step"]))
    assert steps[0] == 0
    identity = Identity(**json.loads(earlier[RUN])["identity"])
    place = f"{bucket}/log/earlier/{identity.digest[:12]}"
    assert {name: read_bytes(f"{place}/{name}") for name in tree_names(place)} == earlier
    assert not [name for name in tree_names(arguments["log"]) if name.startswith("checkpoint-")]

    model = read_bytes(f"{bucket}/aligned/model.safetensors")
    digest = read_run(arguments["log"]).identity.digest[:12]
    align(other, **arguments, start_anew=True)
    assert read_bytes(f"{bucket}/aligned-{digest}/model.safetensors") == model
    assert {RUN, LOG, "summary.json"} <= set(tree_names(f"{bucket}/log/earlier/{digest}"))


def test_an_upload_that_was_not_completed_is_no_checkpoint(bucket, folder, tmp_path):
    with Mirror(folder, bucket) as mirror:
        mirror.send_checkpoint(checkpoint(folder, 4), log_bytes=8)
    bucket_name, _, prefix = bucket.removeprefix("s3://").partition("/")
    place = {"Bucket": bucket_name, "Key": f"{prefix}/checkpoint-00000008.pt".lstrip("/")}
    client = boto3.client("s3")
    upload = client.create_multipart_upload(**place)["UploadId"]
    client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"half done")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    with Mirror(fresh, bucket) as mirror:
        mirror.fetch()
        assert (fresh / LOG).read_bytes() == b"one\ntwo\n"
        assert [path.name for path in fresh.glob("checkpoint-*")] == ["checkpoint-00000004.pt"]
        mirror.send_checkpoint(checkpoint(fresh, 12), log_bytes=8)
    assert set(tree_names(bucket)) == {LOG, "checkpoint-00000012.pt"}


def test_a_scratch_folder_that_is_further_than_the_prefix_is_kept(bucket, folder):
    with Mirror(folder, bucket) as mirror:
        mirror.send_checkpoint(checkpoint(folder, 4), log_bytes=8)
        mirror.wait()
        checkpoint(folder, 8)
        mirror.fetch()
    assert (folder / LOG).read_bytes() == b"one\ntwo\nthree\n"


@pytest.fixture
def interrupted_service(monkeypatch):
    """A bucket on a service of its own that is away, and what brings it back."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="interrupted")
    server.stop()
    started = []

    def back():
        started.append(ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False))
        started[-1].start()

    yield "s3://interrupted", back
    for running in started:
        running.stop()


@pytest.mark.slow
def test_a_service_that_is_away_from_the_start_is_told_before_any_work(problem, interrupted_service, scratch):
    uri, _ = interrupted_service
    with pytest.raises(UserError, match="cannot be listed"):
        align(PARAMS, **{**problem.arguments("nowhere"), "log": f"{uri}/log"})
    assert list(scratch.glob("v2a-dpo-*")) == []


def test_an_upload_waits_for_a_service_that_comes_back(interrupted_service, folder):
    uri, back = interrupted_service
    with Mirror(folder, uri, retry_delays_s=[0.2] * 50) as mirror:
        mirror.send_checkpoint(checkpoint(folder, 4), log_bytes=8)
        timer = threading.Timer(0.5, back)
        timer.start()
        mirror.wait()
        timer.join()
    assert list_names(uri) == ["checkpoint-00000004.pt", LOG]


@pytest.mark.slow
def test_a_service_that_stays_away_is_told_with_what_is_kept_where(interrupted_service, folder):
    uri, _ = interrupted_service
    with Mirror(folder, uri, retry_delays_s=[0.0]) as mirror:
        mirror.send_checkpoint(checkpoint(folder, 4), log_bytes=8)
        with pytest.raises(UserError, match=f"cannot be written.*The scratch folder {folder} keeps the work"):
            mirror.wait()
    assert (folder / "checkpoint-00000004.pt").exists()
