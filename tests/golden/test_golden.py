"""The networks reproduce the golden numbers stored here, and the checker says so when they do not."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.golden.__main__ import check_file, check_name, main
from tests.golden.format import fill_parameter

HERE = Path(__file__).parent
FOLDERS = [folder for folder in sorted(HERE.iterdir()) if folder.is_dir() and check_name(folder)]
#: Both autoencoders at full size take 3 GB.
SLOW = {HERE / "mmaudio_vae" / "full.json"}


def _parameters() -> list:
    files = [file for folder in FOLDERS for file in sorted(folder.glob("*.json"))]
    return [
        pytest.param(file, id=f"{file.parent.name}-{file.stem}", marks=[pytest.mark.slow] if file in SLOW else [])
        for file in files
    ]


@pytest.mark.parametrize("file", _parameters())
def test_golden_numbers_are_reproduced(file: Path) -> None:
    results = list(check_file(file))
    assert results
    assert [result for result in results if not result.passed] == []


@pytest.fixture
def network_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mmaudio"
    folder.mkdir()
    for name in ("tiny.json", "tiny.safetensors"):
        shutil.copy(HERE / "mmaudio" / name, folder / name)
    return folder


def _change(folder: Path, name: str, change: float) -> None:
    tensors = load_file(folder / "tiny.safetensors")
    tensors[name] = tensors[name] + change
    save_file(tensors, folder / "tiny.safetensors")


def test_the_command_exits_with_0_when_all_numbers_agree(network_folder: Path) -> None:
    assert main([str(network_folder)]) == 0


def test_the_command_exits_with_1_when_a_golden_number_differs(
    network_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _change(network_folder, "outputs.flow", 1e-3)
    assert main([str(network_folder)]) == 1
    failures = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert len(failures) == 1
    assert "tiny: flow" in failures[0]


def test_a_changed_weight_shows_in_the_outputs_behind_it(network_folder: Path) -> None:
    _change(network_folder, "weights.fused_blocks.0.attn.q_norm.weight", 0.05)
    results = {result.name: result for result in check_file(network_folder / "tiny.json")}
    assert not results["tiny: fused0"].passed
    assert results["tiny: joint0.latent"].passed


def test_an_unknown_output_is_an_error_and_not_a_skip(network_folder: Path) -> None:
    facts = json.loads((network_folder / "tiny.json").read_text())
    facts["outputs"]["flow_backwards"] = facts["outputs"]["flow"]
    (network_folder / "tiny.json").write_text(json.dumps(facts))
    tensors = load_file(network_folder / "tiny.safetensors")
    tensors["outputs.flow_backwards"] = tensors["outputs.flow"].clone()
    save_file(tensors, network_folder / "tiny.safetensors")
    assert main([str(network_folder)]) == 1


@pytest.mark.parametrize("name", ["nothing_here", "unheard_of"])
def test_a_missing_or_unknown_folder_fails(tmp_path: Path, name: str) -> None:
    (tmp_path / "unheard_of").mkdir()
    assert main([str(tmp_path / name)]) == 1


def test_a_file_that_cannot_be_read_fails_alone(network_folder: Path) -> None:
    (network_folder / "broken.json").write_text("{")
    assert main([str(network_folder)]) == 1
    assert all(result.passed for result in check_file(network_folder / "tiny.json"))


def test_the_longest_fitting_name_picks_the_check(tmp_path: Path) -> None:
    assert check_name(tmp_path / "mmaudio") == "mmaudio"
    assert check_name(tmp_path / "mmaudio_seed7") == "mmaudio"
    assert check_name(tmp_path / "mmaudio_vae_seed7") == "mmaudio_vae"
    assert check_name(tmp_path / "mmaudiovae") is None


def test_filled_weights_depend_on_key_and_seed_and_keep_unit_gain() -> None:
    one = fill_parameter("a.weight", (64, 300), 1)
    assert torch.equal(one, fill_parameter("a.weight", (64, 300), 1))
    assert not torch.equal(one, fill_parameter("a.weight", (64, 300), 2))
    assert not torch.equal(one, fill_parameter("b.weight", (64, 300), 1))
    # A uniform number in [-1, 1] has variance 1/3, so each row's squares sum to one on average.
    assert one.square().sum(dim=1).mean().item() == pytest.approx(1.0, abs=0.02)
    assert abs(fill_parameter("norm.weight", (50_000,), 1).mean().item() - 1) < 1e-3
    assert fill_parameter("gain", (), 1).shape == ()
    assert math.isclose(fill_parameter("latent_std", (1, 1, 4000), 1).mean().item(), 1.0, abs_tol=0.02)
