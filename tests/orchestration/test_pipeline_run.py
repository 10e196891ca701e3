"""What a pipeline run checks before it starts and tells after it ended."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.orchestration.checks import REQUEST_FILE, check_run
from v2a_dpo.orchestration.existing import take_existing, take_loop
from v2a_dpo.orchestration.summary import SUMMARY_FILE, summarize_run

TINY = Params.model_validate({"generator": {"family": "tiny", "variant": "tiny"}})


@pytest.fixture
def webhook():
    """The address of a server that keeps what it is told."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?token=hidden", told
    server.shutdown()
    server.server_close()


def test_a_run_of_the_tiny_profile_needs_nothing(tmp_path):
    root = str(tmp_path / "loop")
    assert check_run(TINY, root=root) == root
    request = json.loads((tmp_path / "loop" / REQUEST_FILE).read_text())
    assert request["params"]["generator"]["family"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "s3://bucket/loop/"}, "slash"),
        ({"start_at": "middle"}, "cannot start at 'middle'"),
        ({"data_root": "elsewhere"}, "makes its own data"),
        ({"generator": "given"}, "Missing inputs: videos, scorers"),
        ({"ratings_csv": "missing.csv"}, "file of ratings does not exist"),
        ({"start_at": "pairs"}, "no finished data set"),
    ],
)
def test_a_run_that_cannot_work_is_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        check_run(TINY, **{"root": str(tmp_path / "loop"), **arguments})


def test_real_videos_need_models_and_ratings_unless_they_are_to_be_rated(tmp_path):
    official = Params()
    with pytest.raises(UserError, match="Missing inputs: videos, generator, scorers"):
        check_run(official, root=str(tmp_path / "loop"))
    given = {}
    for name in ("generator", "scorers", "videos/annotation", "videos/preference", "videos/test"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "captions.csv").touch()
        given[name.partition("/")[0]] = str(tmp_path / name.partition("/")[0])
    with pytest.raises(UserError, match="have no ratings"):
        check_run(official, root=str(tmp_path / "loop"), **given)
    root = str(tmp_path / "loop")
    assert check_run(official, root=root, to_be_rated=True, **given) == root


def test_what_is_gone_cannot_be_taken(tmp_path):
    with pytest.raises(UserError, match="Not found"):
        take_existing(str(tmp_path / "gone"))
    with pytest.raises(UserError, match="Not found"):
        take_loop(loop_root=str(tmp_path), generator="", scorers="")


def test_a_failed_run_is_summed_up_and_told(tmp_path, webhook, monkeypatch, capsys):
    address, told = webhook
    monkeypatch.setenv("V2A_DPO_WEBHOOK", address)
    summary = summarize_run(str(tmp_path), run="run-7", state="FAILED", error="a pod was evicted")
    kept = json.loads((tmp_path / SUMMARY_FILE).read_text())
    assert kept["state"] == "FAILED"
    assert not any(kept["finished"].values())
    assert told[0]["summary"]["run"] == "run-7"
    assert told[0]["text"] == str(summary)
    assert "a pod was evicted" in told[0]["text"]
    assert "hidden" not in capsys.readouterr().out


def test_a_webhook_that_does_not_answer_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("V2A_DPO_WEBHOOK", "http://127.0.0.1:9/?token=hidden")
    assert summarize_run(str(tmp_path), run="run-7", state="SUCCEEDED").state == "SUCCEEDED"
    printed = capsys.readouterr().out
    assert "Webhook failed" in printed
    assert "hidden" not in printed
