from pathlib import Path

import pytest

from v2a_dpo.artifacts.checksums import CHECKSUMS_FILE, record_checksums, verify_checksums
from v2a_dpo.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "model.safetensors").write_bytes(b"weights")
    record_checksums(tmp_path)
    return tmp_path


def test_an_untouched_folder_is_what_was_recorded_and_recording_again_changes_nothing(folder: Path) -> None:
    before = (folder / CHECKSUMS_FILE).read_text()
    assert sorted(line.split("  ")[1] for line in before.splitlines()) == ["config.json", "parts/model.safetensors"]
    verify_checksums(folder)
    record_checksums(folder)
    assert (folder / CHECKSUMS_FILE).read_text() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no recorded checksums"),
        ("abc", "cannot be read"),
        ("abc  config.json\n", "config.json has the SHA-256 .*, recorded is abc"),
    ],
)
def test_damaged_checksums_are_refused(folder: Path, content: str, message: str) -> None:
    (folder / CHECKSUMS_FILE).write_text(content)
    with pytest.raises(UserError, match=message):
        verify_checksums(folder)


def test_a_folder_whose_checksums_are_gone_is_refused_where_they_must_be(folder: Path) -> None:
    (folder / CHECKSUMS_FILE).unlink()
    with pytest.raises(UserError, match="no recorded checksums"):
        verify_checksums(folder)
