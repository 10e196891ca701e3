"""The process that sends live curves, seen from the training that starts it."""

import logging
import sys
import time

from v2a_dpo.tracking.live import LiveSender


def test_a_sender_that_cannot_start_does_not_stop_the_training(caplog):
    sender = LiveSender(["/no/such/program"])
    for step in range(3):
        sender({"step": step})
    sender.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the log keeps them" in caplog.text


def test_a_sender_that_hangs_is_stopped_after_its_time(caplog):
    sender = LiveSender([sys.executable, "-c", "import time; time.sleep(600)"])
    sender({"step": 0})
    start = time.monotonic()
    sender.close(timeout_s=0.2)
    assert time.monotonic() - start < 30
    assert "the log keeps them" in caplog.text


def test_the_senders_input_ends_with_the_training(caplog):
    sender = LiveSender([sys.executable, "-c", "import sys; assert sys.stdin.read() == ''"])
    sender({"step": 0})
    sender.close()
    assert caplog.text == ""


def test_a_sender_has_the_lowest_priority(tmp_path):
    printed = tmp_path / "priority"
    program = f"import os, sys; sys.stdin.read(); open({str(printed)!r}, 'w').write(str(os.nice(0)))"
    sender = LiveSender([sys.executable, "-c", program])
    sender({"step": 0})
    sender.close()
    assert printed.read_text() == "19"


def test_training_without_a_record_starts_no_sender(tmp_path):
    sender = LiveSender([sys.executable, "-c", f"open({str(tmp_path / 'started')!r}, 'w')"])
    sender.close()
    assert not (tmp_path / "started").exists()
