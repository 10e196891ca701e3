from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from v2a_dpo.artifacts.fingerprint import content_probe, file_checksum, fingerprint, folder_fingerprint
from v2a_dpo.config import AlignConfig, Params
from v2a_dpo.errors import UserError


class Settings(BaseModel):
    beta: float = 600.0
    rate: float = 1e-5


def test_the_order_of_keys_does_not_matter_and_the_order_of_parts_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint("a", "b") != fingerprint("b", "a")
    assert fingerprint("ab") != fingerprint("a", "b")
    assert fingerprint(["a"], "b") != fingerprint("a", ["b"])


def test_a_model_and_its_values_have_one_fingerprint_wherever_they_stand() -> None:
    assert fingerprint(Settings()) == fingerprint({"beta": 600.0, "rate": 1e-5})
    assert fingerprint([Settings()]) == fingerprint([{"beta": 600.0, "rate": 1e-5}])
    assert fingerprint({"x": (Settings(), Path("a"))}) == fingerprint({"x": [Settings(), "a"]})


def test_an_integer_in_the_parameters_file_is_the_float_it_stands_for() -> None:
    assert fingerprint(AlignConfig.model_validate({"beta": 600})) == fingerprint(AlignConfig(beta=600.0))


def test_every_parameter_counts() -> None:
    prints = {
        fingerprint(Params()),
        fingerprint(Params(seed=1)),
        fingerprint(Params(profile="tiny")),
        fingerprint(Params(align=AlignConfig(beta=601.0))),
    }
    assert len(prints) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"beta": value})


def test_an_object_without_a_plain_form_is_refused() -> None:
    with pytest.raises(TypeError):
        fingerprint(object())


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert file_checksum(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    file.write_bytes(b"a" * ((1 << 20) + 1))
    assert file_checksum(file) == "4a3f0c0c213adea174f9a3d4c13177315b588bdb2e9c1012d3d0bf0453ca0f6a"


def test_a_folder_changes_with_any_file_in_it_or_below(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "clap").mkdir()
    (tmp_path / "clap" / "model.safetensors").write_text("weights")
    before = folder_fingerprint(tmp_path)
    assert folder_fingerprint(f"{tmp_path}/") == before

    (tmp_path / ".config.json.0.partial").write_text("left by a killed writer")
    assert folder_fingerprint(tmp_path) == before

    (tmp_path / "clap" / "model.safetensors").write_text("Weights")
    changed = folder_fingerprint(tmp_path)
    (tmp_path / "clap" / "model.safetensors").rename(tmp_path / "clap" / "other.safetensors")
    assert len({before, changed, folder_fingerprint(tmp_path)}) == 3


def test_a_folder_with_no_files_has_no_fingerprint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="does not exist or is empty"):
            folder_fingerprint(folder)


def test_a_probe_sees_size_head_and_tail(tmp_path: Path) -> None:
    content = bytearray(300_000)
    probes = set()
    for change in (None, 0, 299_999):
        altered = content.copy()
        if change is not None:
            altered[change] = 1
        (tmp_path / "video").write_bytes(altered)
        probes.add(content_probe(tmp_path / "video"))
    (tmp_path / "video").write_bytes(content[:-1])
    probes.add(content_probe(tmp_path / "video"))
    assert len(probes) == 4


def test_a_probe_of_a_missing_or_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        content_probe(tmp_path / "absent")
    (tmp_path / "empty").touch()
    assert len(content_probe(tmp_path / "empty")) == 32
