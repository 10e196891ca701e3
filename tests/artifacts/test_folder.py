from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import pytest

from v2a_dpo.artifacts.folder import claim_folder, local_copy, new_folder
from v2a_dpo.artifacts.location import list_names
from v2a_dpo.errors import UserError


def fill(uri: Path | str, **files: str) -> None:
    with new_folder(uri) as folder:
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_new_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path: Path) -> None:
    fill(tmp_path / "model", config="1", extra="1")
    fill(tmp_path / "model", config="2")
    assert names(tmp_path / "model") == ["config.json"]
    assert (tmp_path / "model" / "config.json").read_text() == "2"
    assert names(tmp_path) == ["model"]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    fill(tmp_path / "model", config="1")

    def fail_half_way() -> None:
        with new_folder(tmp_path / "model") as folder:
            (folder / "config.json").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert (tmp_path / "model" / "config.json").read_text() == "1"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("foreign", ["holiday.mp4", "album/", ".bashrc"])
def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / foreign).mkdir() if foreign.endswith("/") else (target / foreign).touch()
    with pytest.raises(UserError, match=foreign.strip("/")):
        fill(target, config="1")
    assert names(target) == [foreign.strip("/")]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="may be replaced"):
        fill(tmp_path / "model", config="1")
    assert (tmp_path / "model").read_text() == "mine"


def test_a_claimed_folder_keeps_what_the_same_parameters_made_and_loses_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    claim_folder(folder, "one")
    (folder / "clips").mkdir()
    (folder / "clips" / "a.mp4").touch()
    claim_folder(folder, "one")
    assert (folder / "clips" / "a.mp4").exists()
    claim_folder(folder, "two")
    assert names(folder) == [".made-with"]


def test_a_folder_that_nobody_claimed_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(UserError, match=r"holds holiday\.mp4"):
        claim_folder(tmp_path, "one")
    assert names(tmp_path) == ["holiday.mp4"]


def test_weights_that_find_no_room_are_told_so_and_leave_nothing(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from safetensors.numpy import save_file\n"
        "from v2a_dpo.artifacts.folder import new_folder\n"
        "from v2a_dpo.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with new_folder(sys.argv[1]) as folder:\n"
        "        save_file({'weight': np.zeros(1000)}, folder / 'model.safetensors')\n"
        "except UserError as error:\n"
        "    print(error.what, error.where, error.remedy)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("This cannot be written: the file would exceed the largest allowed size. ")
    assert str(tmp_path / "model") in told
    assert names(tmp_path) == []


def test_a_model_folder_goes_to_s3_and_back(bucket: str) -> None:
    fill(f"{bucket}/model", config="1", weights="2")
    assert list_names(f"{bucket}/model") == ["config.json", "weights.json"]
    with local_copy(f"{bucket}/model") as folder:
        assert names(folder) == ["config.json", "weights.json"]
        assert (folder / "weights.json").read_text() == "2"
    assert not folder.exists()


def test_a_model_folder_beside_a_consoles_folder_marker_is_fetched_and_leaves_nothing_behind(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="model/", Body=b"")
    fill(f"{bucket}/model", config="1", weights="2")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with local_copy(f"{bucket}/model") as folder:
        assert names(folder) == ["config.json", "weights.json"]
    assert names(tmp_path) == []


def test_a_local_model_folder_is_its_own_copy(tmp_path: Path) -> None:
    with local_copy(f"file://{tmp_path}") as folder:
        assert folder == tmp_path
