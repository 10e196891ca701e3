"""The command line as a person meets it: help, errors in one paragraph, exit statuses. Real processes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from v2a_dpo.cli.main import app, main
from v2a_dpo.errors import UserError

ROOT = Path(__file__).parents[2]
#: Panels of the help in the order of the loop, each with its commands.
PANELS = {
    "Loop": ("run", "results", "config"),
    "Data": ("world", "pretrain", "vggsound", "prepare", "generate", "score", "annotate", "import-ratings"),
    "Train": ("train-audioscore", "mine", "align", "sync-curves"),
    "Evaluate": ("evaluate", "guidance", "report", "plots"),
    "Release": ("gate", "register", "promote", "rollback", "history", "lineage"),
    "Serve": ("serve", "package", "demo"),
    "Weights": ("weights",),
    "Cluster": ("pipeline",),
}
COMMANDS = [command for panel in PANELS.values() for command in panel]


def call(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "v2a_dpo.cli", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip


def test_help_lists_all_commands_in_the_order_of_the_loop():
    done = call("--help")
    assert done.returncode == 0
    lines = [line.strip("│ ").split(" ")[0] for line in done.stdout.splitlines() if line.startswith("│ ")]
    assert [word for word in lines if word and not word.startswith("-")] == COMMANDS
    titles = [line.split("─ ")[1].split(" ─")[0] for line in done.stdout.splitlines() if line.startswith("╭")]
    assert titles == ["Options", *PANELS]


@pytest.mark.parametrize("stage", [command for command in COMMANDS if command not in ("config", "weights", "pipeline")])
def test_every_command_has_an_example(stage):
    done = CliRunner().invoke(app, [stage, "--help"])
    assert done.exit_code == 0
    assert f"v2a-dpo {stage}" in done.stdout


def test_help_imports_neither_torch_nor_pyarrow():
    code = (
        "import sys; sys.argv = ['v2a-dpo', '--help']\n"
        "from v2a_dpo.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'pyarrow', 'mlflow', 'pydantic', 'av')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_users_mistake_is_one_paragraph_with_a_remedy_and_status_2(tmp_path):
    done = call(
        "mine", "--scores", str(tmp_path / "none"), "--audioscore", str(tmp_path), "--output", str(tmp_path / "out")
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Where: " + str(tmp_path / "none") in done.stderr
    assert "Remedy: " in done.stderr


@pytest.mark.slow
def test_an_output_below_a_file_is_the_users_mistake(tmp_path):
    (tmp_path / "out").touch()
    done = call("world", "--output", str(tmp_path / "out" / "world"))
    assert done.returncode == 2
    assert "there is a file where a folder is needed" in done.stderr
    assert str(tmp_path / "out") in done.stderr


def test_a_full_disk_is_told_so_wherever_it_shows(monkeypatch, capsys):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/clip.mp4")

    monkeypatch.setattr(sys.modules[main.__module__], "app", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "the disk is full (out/clip.mp4)" in told
    assert "df -h" in told
    assert "Traceback" not in told


def test_debug_shows_the_traceback(tmp_path):
    arguments = ("mine", "--scores", str(tmp_path), "--audioscore", str(tmp_path), "--output", str(tmp_path / "out"))
    done = call("--debug", *arguments)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_wrong_parameter_names_the_field(tmp_path):
    done = call("run", "--root", str(tmp_path), "--set", "align.beta=-1")
    assert done.returncode == 2
    assert "align.beta" in done.stderr


def test_an_unknown_option_has_status_2():
    assert call("mine", "--nonsense").returncode == 2


@pytest.mark.slow
def test_dry_run_names_the_steps_and_makes_nothing(tmp_path):
    done = call("run", "--dry-run", "--root", str(tmp_path / "loop"))
    assert done.returncode == 0
    steps = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert steps[:2] == ["world", "pretrain"]
    assert steps[-1] == "register"
    assert not (tmp_path / "loop").exists()


@pytest.mark.slow
def test_generate_for_a_video_without_a_folder_says_what_to_give():
    done = call("generate", "--video", "dog.mp4")
    assert done.returncode == 2
    assert "--video and --out belong together" in done.stderr


def test_an_error_carries_its_three_parts():
    error = UserError("It broke.", where="file.txt", remedy="Mend it.")
    assert str(error) == "It broke. Where: file.txt. Mend it."
