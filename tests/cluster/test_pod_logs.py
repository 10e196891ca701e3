"""Logs of tasks by their pods, with the real Kubernetes client and a server on loopback."""

import pytest
from typer.testing import CliRunner

from tests.pipelines.pod_server import PodServer
from v2a_dpo.cli.main import app
from v2a_dpo.cluster.pod_logs import PodLogs
from v2a_dpo.errors import UserError

RUN = "2f9c1e7a-5d1b-4f0e-9a43-6b1d0c8e7f21"
LOOP = "root.exit-handler-1.system-2.for-loop-1.iteration-item(3:3).generate"


@pytest.fixture
def pods(tmp_path, monkeypatch):
    with PodServer(RUN, "v2a-dpo") as server:
        monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "config")))
        monkeypatch.delenv("KFP_NAMESPACE", raising=False)
        server.add("driver", "root.mine-driver", log="driving\n")
        server.add("mine", "root.mine.executor", minute=5, log="".join(f"line {n}\n" for n in range(200)))
        server.add("first-try", f"{LOOP}.executor(0)", phase="Failed", minute=1, log="out of memory\n")
        server.add("second-try", f"{LOOP}.executor(1)", minute=2, log="done é\nno newline")
        yield server


def call(*arguments):
    return CliRunner().invoke(app, ["pipeline", "logs", RUN, *arguments])


def test_pods_are_known_by_task_nested_pipeline_iteration_and_attempt(pods):
    found = PodLogs("v2a-dpo").pods(RUN)
    assert [pod.name for pod in found] == ["first-try", "second-try", "mine"]
    assert [(pod.task, pod.within, pod.iteration, pod.attempt) for pod in found[1:]] == [
        ("generate", ("system-2",), "3", "1"),
        ("mine", (), "", ""),
    ]
    assert found[0].title == "system-2/generate, iteration 3, attempt 0 (Failed, pod first-try)"


def test_a_tasks_log_is_printed_pod_by_pod(pods):
    done = call("generate")
    assert done.stdout.splitlines() == ["out of memory", "done é", "no newline"]
    assert done.stderr.index("pod first-try") < done.stderr.index("pod second-try")


def test_only_the_last_lines_are_printed_unless_all_are_wanted(pods):
    assert call("mine").stdout.splitlines() == [f"line {n}" for n in range(100, 200)]
    assert call("mine", "--tail", "3").stdout.splitlines() == ["line 197", "line 198", "line 199"]
    assert len(call("mine", "--tail", "0").stdout.splitlines()) == 200


def test_without_a_task_the_failed_ones_are_printed(pods):
    assert call().stdout.splitlines() == ["out of memory"]


def test_a_pod_that_has_not_started_has_no_lines(pods):
    pods.add("waiting", "root.align.executor", phase="Pending", log=None)
    done = call("align")
    assert done.exit_code == 0
    assert done.stdout == ""


def test_one_pod_can_be_followed_but_not_several(pods):
    assert call("mine", "--follow", "--tail", "1").stdout == "line 199\n"
    with pytest.raises(UserError, match="2 pods cannot be followed"):
        raise call("generate", "--follow").exception


def test_a_missing_pod_names_the_tasks_that_have_some(pods):
    with pytest.raises(UserError, match=r"align has no pod.*Tasks with pods: generate, mine"):
        raise call("align").exception


def test_without_the_right_to_read_pods_it_is_said_what_is_needed(pods):
    with pytest.raises(UserError, match=r"403.*right to list pods.*namespace elsewhere"):
        raise call("mine", "--namespace", "elsewhere").exception


def test_without_a_kubeconfig_it_is_said_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match=r"no access to Kubernetes.*kubeconfig"):
        raise call("mine").exception
