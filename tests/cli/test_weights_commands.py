"""`v2a-dpo weights ...` as a person meets it."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from tests.weights.small_files import state_of
from v2a_dpo.cli.main import app
from v2a_dpo.errors import UserError
from v2a_dpo.weights.catalog import FILES

COMMANDS = [("weights", name) for name in ("list", "fetch", "import", "verify", "info")]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command):
    done = call(*command, "--help")
    assert done.exit_code == 0
    assert "v2a-dpo " + " ".join(command) in done.stdout


def test_list_shows_every_file_and_what_is_there(published, store):
    call("weights", "import", published["net_small"], "--accept-noncommercial")
    lines = call("weights", "list").stdout.splitlines()
    rows = {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}
    assert set(rows) == set(FILES)
    assert "yes, published checksum" in rows["net_small"]
    assert "non-commercial" in rows["net_small"]
    assert rows["net_large"].rstrip("│ ").endswith("no")


def test_an_unverified_import_is_said_loudly(published, store, tmp_path):
    path = tmp_path / "net_small.pth"
    torch.save(state_of("small", seed=3), path)
    done = call("weights", "import", path, "--accept-noncommercial", "--allow-unverified")
    assert done.exit_code == 0
    assert "WARNING: net_small is UNVERIFIED" in done.stderr
    assert "unverified" in call("weights", "list").stdout


def test_a_first_import_says_what_it_recorded(catalog, store, tmp_path):
    path = tmp_path / "net_small.pth"
    torch.save(state_of("small"), path)
    done = call("weights", "import", path, "--accept-noncommercial")
    assert store.record("net_small").source_sha256 in done.stderr.replace("\n", "")


def test_fetch_names_a_group_or_files(server, published, store, catalog):
    with pytest.raises(UserError, match="non-commercial"):
        raise call("weights", "fetch", "net_small").exception
    with pytest.raises(UserError, match="no official file"):
        raise call("weights", "fetch", "net_huge").exception


def test_verify_tells_sound_from_damaged(published, store):
    for path in published.values():
        call("weights", "import", path, "--accept-noncommercial")
    done = call("weights", "verify")
    assert done.exit_code == 0
    assert done.stdout.count("sound") == 2
    model = store.folder("net_large") / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    done = call("weights", "verify", "net_large", "net_small")
    assert isinstance(done.exception, UserError)
    assert "1 of 2" in done.exception.what
    assert "net_small: sound" in done.stdout


def test_verify_of_nothing_is_a_mistake(catalog, store):
    with pytest.raises(UserError, match="No weights"):
        raise call("weights", "verify").exception


def test_info_of_an_unknown_model_lists_the_known_ones():
    with pytest.raises(UserError, match="large_44k_v2"):
        raise call("weights", "info", "huge").exception
