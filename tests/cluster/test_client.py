"""The real client of Kubeflow Pipelines against a server on loopback: upload, start, status, cancel, schedules,
failures."""

import logging
import socket
from copy import deepcopy
from dataclasses import replace

import pytest

from pipelines.compilation import compile_pipeline
from tests.pipelines.kfp_server import KubeflowServer
from v2a_dpo.cluster.client import Connection, PipelineClient
from v2a_dpo.cluster.errors import NotLoggedInError, UnreachableError
from v2a_dpo.cluster.schedules import Schedule
from v2a_dpo.cluster.submission import CompiledPipeline, Submission, task_names
from v2a_dpo.errors import UserError

ARGUMENTS = {name: f"s3://bucket/{name}" for name in ("root", "clips", "conditions", "scorers", "base")} | {
    "params": {}
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = compile_pipeline("evaluate", output=tmp_path_factory.mktemp("compiled") / "evaluate.yaml", preset="cpu")
    return CompiledPipeline.of(path.read_text())


@pytest.fixture(scope="module")
def counting(compiled):
    """The pipeline with one more input: a whole number."""
    spec = deepcopy(compiled.spec)
    spec["root"]["inputDefinitions"]["parameters"]["epochs"] = {"parameterType": "NUMBER_INTEGER", "defaultValue": 4.0}
    return replace(compiled, spec=spec)


@pytest.fixture
def server(compiled):
    with KubeflowServer(tasks=tuple(task_names(compiled.spec))) as running:
        yield running


@pytest.fixture
def submission(compiled):
    return Submission(compiled, compiled.arguments(ARGUMENTS), "experiment", "a run", "v2a-dpo-pipeline")


def start(server, submission, **connection):
    client = PipelineClient(Connection(server.url, **connection))
    return client, client.start(submission, client.upload(submission.compiled))


def test_an_upload_carries_the_compiled_text_and_a_version_by_its_fingerprint(server, compiled):
    version = PipelineClient(Connection(server.url)).upload(compiled)
    stored = server.versions[version.version_id]
    assert version.is_new
    assert stored["text"] == compiled.text
    assert stored["display_name"] == compiled.version
    assert [each["name"] for each in server.pipelines.values()] == ["evaluate"]


def test_a_second_upload_uses_the_version_that_is_there(server, compiled):
    client = PipelineClient(Connection(server.url))
    first, second = client.upload(compiled), client.upload(compiled)
    assert (second.version_id, second.is_new) == (first.version_id, False)
    assert len(server.asked("POST", "/pipelines/upload_version")) == 1


def test_a_changed_text_is_a_new_version_of_the_same_pipeline(server, compiled):
    client = PipelineClient(Connection(server.url))
    first = client.upload(compiled)
    second = client.upload(CompiledPipeline.of(compiled.text + "\n# another build\n"))
    assert second.is_new
    assert second.pipeline_id == first.pipeline_id
    assert second.version_id != first.version_id


def test_a_run_is_started_with_its_arguments_experiment_and_account(server, submission):
    _, run_id = start(server, submission)
    sent = server.runs[run_id]
    assert sent["runtime_config"]["parameters"] == ARGUMENTS
    assert sent["service_account"] == "v2a-dpo-pipeline"
    assert server.experiments[sent["experiment_id"]]["display_name"] == "experiment"
    assert sent["pipeline_version_reference"]["pipeline_version_id"] in server.versions


def test_an_experiment_is_made_once(server, submission):
    start(server, submission)
    start(server, submission)
    assert len(server.experiments) == 1
    assert len({run["experiment_id"] for run in server.runs.values()}) == 1


def test_status_names_every_task_in_order_with_its_state(server, submission):
    client, run_id = start(server, submission)
    client.status(run_id)
    status = client.status(run_id)
    names = [task.name for task in status.tasks]
    assert status.state == "RUNNING"
    assert names.index("score") < names.index("evaluate") < names.index("report")
    assert [task.state for task in status.tasks[:3]] == ["SUCCEEDED", "RUNNING", "WAITING"]
    assert [task.end is None for task in status.tasks[:3]] == [False, True, True]
    assert status.tasks[0].duration_s(now=status.tasks[0].start) == 90


def test_a_finished_run_leaves_no_task_waiting(server, submission):
    server.fails_at = "score"
    client, run_id = start(server, submission)
    while not (status := client.status(run_id)).is_finished:
        pass
    states = {task.name: task.state for task in status.tasks}
    assert (status.state, status.failed_tasks) == ("FAILED", ["score"])
    assert states["evaluate"] == "SKIPPED"
    assert "score failed" in status.error


def test_cancel_stops_a_run_and_leaves_a_finished_one_alone(server, submission):
    client, run_id = start(server, submission)
    assert client.cancel(run_id).state == "CANCELED"
    assert client.cancel(run_id).state == "CANCELED"
    assert len(server.asked("POST", "/runs/[^/]+:terminate")) == 1


def test_the_latest_runs_come_first(server, submission):
    client, first = start(server, submission)
    _, second = start(server, submission)
    assert [run.run_id for run in client.runs()] == [second, first]


def test_schedules_are_made_listed_over_pages_and_deleted(server, submission):
    client = PipelineClient(Connection(server.url))
    version = client.upload(submission.compiled)
    client.schedule(submission, version, Schedule.by("weekly", cron="0 3 * * MON", every=None))
    client.schedule(submission, version, Schedule.by("daily", cron=None, every="24h"))
    stored = {each["display_name"]: each for each in server.recurring.values()}
    assert stored["weekly"]["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * MON"}}
    assert (stored["weekly"]["max_concurrency"], stored["weekly"]["no_catchup"]) == (1, True)
    assert [each.recurrence for each in client.schedules()] == ["cron 0 0 3 * * MON (UTC)", "every 1 day, 0:00:00"]
    client.delete_schedule("weekly")
    assert [each.name for each in client.schedules()] == ["daily"]
    with pytest.raises(UserError, match="no schedule called weekly"):
        client.delete_schedule("weekly")


def test_a_schedule_does_not_silently_double(server, submission):
    client = PipelineClient(Connection(server.url))
    version = client.upload(submission.compiled)
    client.schedule(submission, version, Schedule.by("weekly", cron=None, every="7d"))
    with pytest.raises(UserError, match="already a schedule called weekly"):
        client.schedule(submission, version, Schedule.by("weekly", cron=None, every="7d"))
    assert len(server.recurring) == 1


@pytest.mark.parametrize(
    ("cron", "every"),
    [
        ("0 3 * *", None),
        ("; rm 3 * * *", None),
        (None, "0h"),
        (None, "weekly"),
        (None, None),
        ("0 3 * * *", "1d"),
    ],
)
def test_a_wrong_cron_expression_or_interval_is_refused(cron, every):
    with pytest.raises(UserError, match=r"--cron|--every"):
        Schedule.by("name", cron=cron, every=every)


def test_the_token_is_sent_with_every_request_and_shown_nowhere(server, submission, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.token = "a-secret-token"
    client, run_id = start(server, submission, token="a-secret-token")
    client.status(run_id)
    assert {request.authorization for request in server.requests} == {"Bearer a-secret-token"}
    shown = capfd.readouterr()
    assert "a-secret-token" not in caplog.text + shown.out + shown.err + repr(
        Connection(server.url, token="a-secret-token")
    )


def test_a_token_file_is_read_anew(server, submission, tmp_path):
    server.token = "first"
    file = tmp_path / "token"
    file.write_text("first\n")
    client, run_id = start(server, submission, token_file=str(file))
    server.token = "second"
    with pytest.raises(NotLoggedInError, match="401"):
        client.status(run_id)
    file.write_text("second\n")
    client.renew_token()
    assert client.status(run_id).state == "RUNNING"


def test_a_refused_token_is_explained_at_once(server):
    server.token = "right"
    with pytest.raises(NotLoggedInError, match=r"401.*KFP_TOKEN.*--token-file"):
        PipelineClient(Connection(server.url, token="wrong"))
    assert len(server.requests) == 1


def test_a_shared_server_needs_a_namespace_that_one_may_use(server, submission):
    server.namespaces = {"ours"}
    with pytest.raises(UserError, match="--namespace"):
        PipelineClient(Connection(server.url))
    with pytest.raises(UserError, match=r"403.*no access to namespace theirs.*--namespace exists"):
        start(server, submission, namespace="theirs")
    _, run_id = start(server, submission, namespace="ours")
    assert run_id in server.runs
    assert {each["namespace"] for each in server.experiments.values()} == {"ours"}


def test_a_server_of_one_user_is_sent_no_namespace(server, submission):
    client, run_id = start(server, submission, namespace="v2a-dpo")
    assert client.status(run_id).name == "a run"
    assert client.runs()
    assert not client.schedules()


def test_an_unknown_run_is_named(server):
    with pytest.raises(UserError, match=r"has not found the run none-such \(404\)"):
        PipelineClient(Connection(server.url)).status("none-such")


def test_a_server_that_is_away_is_named_with_the_remedy():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=f"{address}.*port-forward"):
            PipelineClient(Connection(address))


def test_a_failing_server_is_told_from_a_wrong_request(server, compiled):
    client = PipelineClient(Connection(server.url))
    server.failures = [("GET", "/pipelines", 503), ("GET", "/pipelines", 400)]
    with pytest.raises(UnreachableError, match="ordered failure 503"):
        client.upload(compiled)
    with pytest.raises(UserError, match=r"refused the pipeline evaluate.*ordered failure 400"):
        client.upload(compiled)


def test_a_login_page_instead_of_the_api_is_recognised(server):
    server.login_page = True
    with pytest.raises(UserError, match=r"log-in page.*token"):
        PipelineClient(Connection(server.url))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (ARGUMENTS | {"modle": "x"}, r"no input called modle.*Its inputs are .*model"),
        ({"params": {}}, r"needs base, clips, conditions, root, scorers"),
        (ARGUMENTS | {"epochs": "many"}, r"epochs is 'many', not a whole number"),
        (ARGUMENTS | {"epochs": "true"}, r"epochs is True, not a whole number"),
    ],
)
def test_wrong_arguments_are_refused_with_the_inputs_name(counting, arguments, message):
    with pytest.raises(UserError, match=message):
        counting.arguments(arguments)


def test_arguments_are_read_as_the_inputs_types(counting):
    checked = counting.arguments(ARGUMENTS | {"epochs": "8", "model": "42"})
    assert (checked["epochs"], checked["model"]) == (8, "42")
