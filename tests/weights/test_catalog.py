"""The catalog itself: complete, consistent, and true to the sizes that upstream states."""

from __future__ import annotations

import math

import pytest

from v2a_dpo.errors import UserError
from v2a_dpo.models.mmaudio.config import VARIANTS
from v2a_dpo.weights.catalog import FILES, NEEDED, file_named_like, names_in
from v2a_dpo.weights.layout import differences, layouts_of
from v2a_dpo.weights.store import Store


def test_every_model_names_files_of_the_catalog():
    assert set(NEEDED) == {*VARIANTS, "scorers"}
    assert all(name in FILES for names in NEEDED.values() for name in names)
    assert NEEDED["small_16k"] == ("mmaudio_small_16k", "mmaudio_vae_16k", "bigvgan_16k", "clip_dfn5b", "synchformer")
    assert NEEDED["large_44k_v2"][1:3] == ("mmaudio_vae_44k", "bigvgan_v2_44k")


def test_every_file_has_a_source_a_licence_and_a_name_of_its_own():
    assert all(file.url.startswith("https://") and file.licence for file in FILES.values())
    assert len({file.file_name for file in FILES.values()}) == len(FILES)
    noncommercial = {name for name, file in FILES.items() if file.noncommercial}
    assert noncommercial == {"imagebind", *(name for name in FILES if name.startswith("mmaudio_"))}


def numbers(layout):
    return sum(math.prod(shape) for shape in layout.values())


@pytest.mark.parametrize(
    ("name", "entries", "parameters"),
    # The counts that the projects' papers or files state; ImageBind's and CLAP's hold buffers besides.
    [("synchformer", 513, 237_460_245), ("imagebind", 1311, None), ("clap", 504, None), ("clap_ms", 357, None),
     ("panns_cnn14_16k", 84, None), ("passt", 159, 86_153_758)],
)  # fmt: skip
def test_shipped_layouts_are_whole(name, entries, parameters):
    (layout,) = layouts_of(FILES[name])
    assert len(layout) == entries
    assert parameters is None or numbers(layout) == parameters


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if file.size_mib is not None])
def test_sizes_are_those_of_the_layouts_in_float32(name):
    layout = layouts_of(FILES[name])[0]
    assert numbers(layout) * 4 / 2**20 == pytest.approx(FILES[name].size_mib, abs=1.0)


def test_groups_become_files_once_each():
    assert names_in(["small_16k", "synchformer", "passt"]) == [*NEEDED["small_16k"], "passt"]
    with pytest.raises(UserError, match="no official file called 'nothing'"):
        names_in(["nothing"])


def test_a_file_is_known_by_its_name(tmp_path):
    assert file_named_like(tmp_path / "best_netG.pt").name == "bigvgan_16k"
    with pytest.raises(UserError, match="best"):
        file_named_like(tmp_path / "best.pt")


def test_differences_name_the_first_key_of_each_kind():
    found = {"a": (1,), "b": (2, 3), "c": ()}
    assert differences(found, found) == []
    assert differences(found, {"a": (1,), "b": (3, 2), "d": ()}) == [
        "1 keys are missing (first: d)",
        "1 keys do not belong there (first: c)",
        "1 tensors have another shape (first: b, [2, 3] instead of [3, 2])",
    ]


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    assert Store.default().root == tmp_path
    monkeypatch.delenv("WEIGHTS_DIR")
    assert str(Store.default().root) == "weights"
