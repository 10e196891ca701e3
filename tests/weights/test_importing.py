"""Files fetched by hand or by download: what is accepted, what is refused and why, and that no part of one stays."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.weights.small_files import SIZES, SMALL, md5_of, model_config, state_of
from v2a_dpo.errors import UserError
from v2a_dpo.weights.catalog import FILES
from v2a_dpo.weights.importing import fetch, import_file
from v2a_dpo.weights.store import Store

ROOT = Path(__file__).parents[2]


def take(path, store, **options):
    return import_file(path, store, accept_noncommercial=True, **options)


def visible(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def equal(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_an_official_file_is_converted_bit_for_bit_without_its_legacy_keys(published, store):
    record = take(published["net_small"], store)
    assert equal(store.state("net_small"), state_of("small"))
    assert record.trust == "published checksum"
    assert record.source_md5 == md5_of(published["net_small"])
    assert (record.tensors, record.parameters) == (4, sum(v.numel() for v in state_of("small").values()))
    assert store.record("net_small") == record
    assert store.damage("net_small") is None


def test_a_generators_folder_is_a_model_folder(published, store):
    take(published["net_small"], store)
    take(published["net_large"], store)
    assert json.loads((store.folder("net_small") / "config.json").read_text()) == model_config("small")
    assert visible(store.folder("net_large")) == ["model.safetensors", "record.json"]


def test_a_part_of_the_tensors_can_be_read_alone(published, store):
    take(published["net_small"], store)
    assert set(store.state("net_small", prefix="0.")) == {"0.weight", "0.bias"}


def test_a_renamed_file_needs_its_name_said(published, store, tmp_path):
    renamed = published["net_small"].rename(tmp_path / "model (1).pth")
    with pytest.raises(UserError, match="No official file") as caught:
        take(renamed, store)
    assert "--as NAME" in caught.value.remedy
    assert "net_small.pth" in caught.value.remedy
    assert take(renamed, store, name="net_small").name == "net_small"


def test_a_file_under_another_files_name_is_told_by_its_checksum(published, store, tmp_path):
    wrong = published["net_large"].rename(tmp_path / "net_small.pth")
    with pytest.raises(UserError, match=r"not net_small but net_large") as caught:
        take(wrong, store)
    assert "--as net_large" in caught.value.remedy
    assert visible(store.root) == []


def test_a_wrong_variant_is_told_by_its_shapes(published, store, tmp_path):
    path = tmp_path / "net_small.pth"
    torch.save(state_of("large", seed=5), path)
    for unverified in (False, True):
        with pytest.raises(UserError, match=r"0\.weight, \[6, 3\] instead of \[4, 3\]") as caught:
            take(path, store, allow_unverified=unverified)
        assert "look like net_large" in caught.value.what
    assert visible(store.root) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("0.bias"), r"1 keys are missing \(first: 0\.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 keys do not belong there \(first: extra\)"),
        (lambda state: state.update({"1.bias": torch.zeros(9)}), r"1\.bias, \[9\] instead of \[4\]"),
        (lambda state: state.update(step=3), r"'step' is of type int"),
    ],
)
def test_what_differs_is_named(catalog, store, tmp_path, change, sentence):
    state = state_of("small")
    change(state)
    torch.save(state, tmp_path / "net_small.pth")
    with pytest.raises(UserError, match=sentence):
        take(tmp_path / "net_small.pth", store)


def test_a_truncated_file_is_called_so(published, store):
    path = published["net_small"]
    path.write_bytes(path.read_bytes()[:-500])
    assert path.stat().st_size > 500
    with pytest.raises(UserError, match="looks truncated") as caught:
        take(path, store)
    assert md5_of(path) in caught.value.what
    assert FILES["net_small"].md5 in caught.value.what
    with pytest.raises(UserError, match="cannot be read"):
        take(path, store, allow_unverified=True)
    assert visible(store.root) == []


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 torn"])
def test_what_is_no_checkpoint_is_refused(catalog, store, tmp_path, content):
    (tmp_path / "net_small.pth").write_bytes(content)
    with pytest.raises(UserError) as caught:
        take(tmp_path / "net_small.pth", store)
    assert str(tmp_path / "net_small.pth") in str(caught.value)


class Malicious:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_a_pickle_that_carries_code_is_refused_and_not_run(catalog, store, tmp_path, save):
    trace = tmp_path / "trace"
    save({**state_of("small"), "payload": Malicious(trace)}, tmp_path / "net_small.pth")
    with pytest.raises(UserError, match="more than tensors") as caught:
        take(tmp_path / "net_small.pth", store, allow_unverified=True)
    assert not trace.exists()
    assert "GLOBAL" in caught.value.what
    assert "safe_globals" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_training_checkpoint_gives_its_weights(catalog, store, tmp_path):
    state = state_of("small")
    content = OrderedDict(
        epoch=15,
        loss=np.float64(0.5),
        state_dict=OrderedDict({"module." + key: value for key, value in state.items()}),
        optimizer={"state": {0: {"exp_avg": torch.zeros(3)}}},
    )
    content["state_dict"]["module.positions"] = torch.arange(3)
    torch.save(content, tmp_path / "epoch_15.pt")
    take(tmp_path / "epoch_15.pt", store)
    assert equal(store.state("trained"), state)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_vocoder_comes_with_and_without_its_wrapper(catalog, store, tmp_path, wrapped):
    state = {"pre.weight_g": torch.ones(2, 1, 1), "pre.weight_v": torch.rand(2, 3, 5), "pre.bias": torch.zeros(2)}
    torch.save({"generator": state, "steps": 5} if wrapped else state, tmp_path / "generator.pt")
    take(tmp_path / "generator.pt", store)
    assert equal(store.state("vocoder"), state)


def test_every_spelling_of_weight_norm_is_understood(catalog, store, tmp_path):
    g, v = torch.rand(2, 1, 1), torch.rand(2, 3, 5)
    newer = {"pre.parametrizations.weight.original0": g, "pre.parametrizations.weight.original1": v}
    torch.save({"generator": {**newer, "pre.bias": torch.zeros(2)}}, tmp_path / "generator.pt")
    take(tmp_path / "generator.pt", store)
    assert equal(store.state("vocoder"), {"pre.weight_g": g, "pre.weight_v": v, "pre.bias": torch.zeros(2)})
    merged = {"pre.weight": v, "pre.bias": torch.zeros(2)}
    torch.save(merged, tmp_path / "generator.pt")
    take(tmp_path / "generator.pt", store, allow_unverified=True)
    assert equal(store.state("vocoder"), merged)


def test_files_of_old_torch_and_safetensors_are_read(catalog, store, tmp_path):
    state = state_of("small")
    torch.save(state, tmp_path / "net_small.pth", _use_new_zipfile_serialization=False)
    take(tmp_path / "net_small.pth", store)
    assert equal(store.state("net_small"), state)
    other = Store(tmp_path / "other")
    save_file(state, tmp_path / "net_small.safetensors")
    take(tmp_path / "net_small.safetensors", other)
    assert equal(other.state("net_small"), state)


def test_half_precision_and_shared_memory_are_resolved(catalog, store, tmp_path):
    state = {key: value.half() for key, value in state_of("small").items()}
    both = torch.rand(8)
    state["0.bias"], state["1.bias"] = both[:4], both[4:]
    state["0.weight"] = torch.rand(3, 4).T
    torch.save(state, tmp_path / "net_small.pth")
    take(tmp_path / "net_small.pth", store)
    assert equal(store.state("net_small"), {key: value.float().contiguous() for key, value in state.items()})


def test_an_unverified_file_is_taken_only_when_asked_and_recorded_as_such(published, store, tmp_path):
    path = tmp_path / "net_small.pth"
    torch.save(state_of("small", seed=7), path)
    with pytest.raises(UserError, match="All its keys and shapes fit") as caught:
        take(path, store)
    assert "--allow-unverified" in caught.value.remedy
    assert take(path, store, allow_unverified=True).trust == "unverified"
    assert store.record("net_small").trust == "unverified"
    assert take(published["net_small"], store).trust == "published checksum"
    assert equal(store.state("net_small"), state_of("small"))


def test_where_no_checksum_is_published_the_first_import_is_trusted(catalog, store, tmp_path):
    path = tmp_path / "net_small.pth"
    torch.save(state_of("small", seed=1), path)
    first = take(path, store)
    assert first.trust == "first import"
    assert take(path, store) == first
    torch.save(state_of("small", seed=2), path)
    with pytest.raises(UserError, match=first.source_sha256):
        take(path, store)
    assert equal(store.state("net_small"), state_of("small", seed=1))
    assert take(path, store, allow_unverified=True).trust == "unverified"


def test_the_licence_is_accepted_first(published, store):
    with pytest.raises(UserError, match="non-commercial"):
        import_file(published["net_small"], store)
    assert visible(store.root) == []


def test_a_missing_file_is_named(catalog, store, tmp_path):
    with pytest.raises(UserError, match="does not exist") as caught:
        take(tmp_path / "net_small.pth", store)
    assert SMALL.url in caught.value.remedy


def test_damage_is_found_and_mended_by_the_next_import(published, store):
    take(published["net_small"], store)
    model = store.folder("net_small") / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert "SHA-256" in store.damage("net_small")
    take(published["net_small"], store)
    assert store.damage("net_small") is None
    model.write_bytes(model.read_bytes()[:-1])
    assert "bytes instead of" in store.damage("net_small")
    with pytest.raises(UserError, match="cannot be read"):
        store.state("net_small")
    model.unlink()
    assert "is missing" in store.damage("net_small")


def test_missing_weights_are_named_with_the_command_that_brings_them(published, store):
    take(published["net_small"], store)
    store.require("net_small")
    with pytest.raises(UserError, match=r"net_large \(net_large\.pth\)") as caught:
        store.require("net_small", "net_large")
    assert "weights fetch net_large" in caught.value.remedy
    assert "weights import" in caught.value.remedy


#: Imports `sys.argv[1]` as the catalog's small network, of a size given by `sys.argv[2]`, into WEIGHTS_DIR.
PROCESS = """
import sys, pathlib, resource
from tests.weights import small_files
from v2a_dpo.errors import UserError
from v2a_dpo.weights.catalog import FILES
from v2a_dpo.weights.importing import fetch, import_file
from v2a_dpo.weights.store import Store
small_files.SIZES["small"] = int(sys.argv[2])
FILES["net_small"] = small_files.SMALL
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    import_file(pathlib.Path(sys.argv[1]), Store.default(), accept_noncommercial=True)
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def big_file(tmp_path):
    """A file of 16 MB and the size of its layer."""
    size = 800_000
    path = tmp_path / "net_small.pth"
    shapes = {"0.weight": (size, 3), "0.bias": (size,), "1.weight": (size,), "1.bias": (size,)}
    torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    return path, size


def start(path, size, *limits):
    arguments = [sys.executable, "-c", PROCESS, str(path), str(size), *map(str, limits)]
    return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_and_says_so(big_file, store):
    process = start(*big_file, 3_000_000)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "cannot" in stderr.lower()
    assert "Free some space" in stderr
    assert "Traceback" not in stderr
    assert visible(store.root) == []


@pytest.mark.slow
def test_a_killed_import_leaves_nothing_that_counts_and_the_next_one_clears_up(big_file, catalog, store, monkeypatch):
    process = start(*big_file)
    while not any(store.root.glob(".net_small.*.partial/model.safetensors")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert store.record("net_small") is None
    assert [name for name in visible(store.root) if not name.startswith(".")] == []
    monkeypatch.setitem(SIZES, "small", big_file[1])
    take(big_file[0], store)
    assert visible(store.root) == ["net_small"]


def test_too_little_space_is_said_before_anything_is_written(catalog, store, tmp_path):
    catalog(replace(SMALL, layout="tests.weights.test_importing:huge_layouts", model_config=None))
    # One number that is repeated: a petabyte of weights in a small file.
    torch.save({"weight": torch.zeros(1).expand(1 << 48)}, tmp_path / "net_small.pth")
    with pytest.raises(UserError, match=r"needs 1073741824 MiB, and \d+ are free") as caught:
        take(tmp_path / "net_small.pth", store)
    assert "WEIGHTS_DIR" in caught.value.remedy
    assert visible(store.root) == []


def huge_layouts(variant):
    return [{"weight": (1 << 48,)}]


def test_a_fetched_file_is_imported_and_its_download_deleted(server, published, catalog, store, patience):
    server.content = published["net_small"].read_bytes()
    catalog(replace(FILES["net_small"], url=server.url()))
    record = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert record.trust == "published checksum"
    assert set(store.state("net_small")) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert list(store.downloads().iterdir()) == []


def test_a_file_that_is_there_is_not_fetched_again(server, published, catalog, store, patience):
    server.content = published["net_small"].read_bytes()
    catalog(replace(FILES["net_small"], url=server.url()))
    first = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert fetch("net_small", store, accept_noncommercial=True, patience=patience) == first
    assert len(server.asked) == 1


def test_a_wrong_file_is_deleted_so_that_the_next_fetch_is_fresh(server, published, catalog, store, patience):
    server.content = b"<html>moved</html>" * 100
    catalog(replace(FILES["net_small"], url=server.url()))
    with pytest.raises(UserError, match="checksum differs"):
        fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert list(store.downloads().iterdir()) == []
    server.content, server.tag = published["net_small"].read_bytes(), '"2"'
    assert fetch("net_small", store, accept_noncommercial=True, patience=patience).tensors == 4


def test_nothing_is_asked_of_the_server_before_the_licence_is_accepted(server, catalog, store):
    catalog(replace(SMALL, url=server.url()))
    with pytest.raises(UserError, match="non-commercial") as caught:
        fetch("net_small", store)
    assert "--accept-noncommercial" in caught.value.remedy
    assert server.asked == []


def test_a_download_that_waits_for_its_import_is_not_fetched_again(server, published, catalog, store, patience):
    catalog(replace(FILES["net_small"], url=server.url()))
    store.downloads().mkdir(parents=True)
    published["net_small"].rename(store.downloads() / "net_small.pth")
    record = fetch("net_small", store, accept_noncommercial=True, patience=patience)
    assert record.parameters == sum(value.numel() for value in store.state("net_small").values())
    assert server.asked == []
    assert torch.isfinite(store.state("net_small")["0.weight"]).all()
