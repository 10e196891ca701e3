"""The notebook on the tiny world: stored clean, and its cells run in order as Jupyter would run them."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.docs.pages import ROOT
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import PAIRS
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build
from v2a_dpo.tiny.scoring import SCORER_NAMES, build_scorer, save_scorer, store_marginal

NOTEBOOK = ROOT / "docs" / "notebook" / "tiny_world.ipynb"
CONTENT = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
slow = pytest.mark.slow
CODE = {cell["id"]: "".join(cell["source"]) for cell in CONTENT["cells"] if cell["cell_type"] == "code"}


class Elements(HTMLParser):
    """The attributes of all elements, by tag, and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.source, self.text = html, ""
        self.attributes: dict[str, list[dict[str, str | None]]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def run(source: str, names: dict[str, Any]) -> Any:
    """Executes a cell and returns the value of its last expression, which a notebook shows; None without one."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def write_models(folder: Path) -> None:
    """A generator and scorers with random weights: the loop on them is real, how they sound is not asked here."""
    sounds = 0.1 * torch.randn(24, 32_000, generator=torch.Generator().manual_seed(1))
    (folder / "generator").mkdir(parents=True)
    build(TinyEncoders(), PatchCodec.fit(sounds), seed=1).save(folder / "generator")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in SCORER_NAMES:
            save_scorer(folder / "scorers", name, build_scorer(name))
    store_marginal(folder / "scorers")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each cell shows, by the cell's id, and the names that the cells left; all cells ran, once."""
    folder = tmp_path_factory.mktemp("notebook")
    write_models(folder / "models")
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        patch.chdir(folder)
        patch.setenv("TINY_WORLD", str(folder / "world"))
        patch.setenv("TINY_MODELS", str(folder / "models"))
        shown = {name: run(source, names) for name, source in CODE.items()}
    return {**shown, "names": names}


def page_of(value: Any) -> Elements:
    """The document in the frame that a page is shown in."""
    (frame,) = Elements(value._repr_html_()).attributes["iframe"]
    return Elements(frame["srcdoc"] or "")


def sounds_of(value: Any) -> list[tuple[str | None, torch.Tensor]]:
    """The track and the sound of each audio element of a page."""
    return [
        (audio["data-track"], decode_flac(base64.b64decode((audio["src"] or "").partition("base64,")[2]))[0])
        for audio in page_of(value).attributes["audio"]
    ]


def test_the_notebook_is_stored_without_outputs_in_the_format_4_5() -> None:
    assert (CONTENT["nbformat"], CONTENT["nbformat_minor"]) == (4, 5)
    assert CONTENT["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in CONTENT["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    for cell in CONTENT["cells"]:
        assert {"id", "cell_type", "metadata", "source"} <= cell.keys()
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        else:
            assert cell.keys() == {"id", "cell_type", "metadata", "source"}
            assert cell["cell_type"] == "markdown"


def test_the_notebook_uses_python_and_this_library_alone() -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for source in CODE.values()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"dataclasses", "os", "pathlib", "v2a_dpo"}


@slow
def test_before_alignment_each_test_clip_has_a_picture_and_two_sounds_to_hear(results: dict[str, Any]) -> None:
    page = page_of(results["before"])
    clips = results["names"]["params"].world.test_clips
    assert "Before alignment" in page.text
    assert len(page.attributes["video"]) == clips
    sounds = sounds_of(results["before"])
    assert [name for name, _ in sounds] == ["real", "base"] * clips
    assert all(sound.square().mean().sqrt() > 1e-3 for _, sound in sounds)


@slow
def test_the_notebook_mines_pairs_of_two_candidates(results: dict[str, Any]) -> None:
    layout = results["names"]["layout"]
    pairs = Dataset.open(layout.pairs, PAIRS).table()
    assert pairs.num_rows > 10
    assert pairs["winner"].to_pylist() != pairs["loser"].to_pylist()
    assert {"clip_id", "winner", "loser"} <= set(Elements(results["pairs"]._repr_html_()).text.split())


@slow
def test_the_notebook_aligns_fifty_steps_to_another_model(results: dict[str, Any]) -> None:
    names = results["names"]
    steps = [record for record in names["log"] if "loss" in record]
    assert [record["step"] for record in steps] == list(range(50))
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert all(0 <= record["implicit_accuracy"] <= 1 for record in steps)
    base, aligned = (
        load_file(Path(folder) / "model.safetensors") for folder in (names["base"], names["layout"].aligned)
    )
    assert base.keys() == aligned.keys()
    assert any(not torch.equal(base[name], aligned[name]) for name in base)


@slow
def test_the_notebook_draws_loss_and_implicit_accuracy(results: dict[str, Any]) -> None:
    page = page_of(results["align"])
    assert [svg["aria-label"] for svg in page.attributes["svg"]] == ["Flow-DPO loss", "Implicit accuracy"]
    lines = re.findall(r'class="faint first">\s*<path d="([^"]+)"', page.source)
    assert [line.count("L") > 10 for line in lines] == [True, True]


@slow
def test_after_alignment_the_same_clips_have_a_third_sound_that_differs(results: dict[str, Any]) -> None:
    before, after = sounds_of(results["before"]), sounds_of(results["after"])
    clips = results["names"]["params"].world.test_clips
    assert [name for name, _ in after] == ["real", "base", "aligned"] * clips
    assert all(sound.square().mean().sqrt() > 1e-3 for _, sound in after)
    for clip in range(clips):
        (_, base), (_, aligned) = after[3 * clip + 1 : 3 * clip + 3]
        assert torch.equal(base, before[2 * clip + 1][1])
        assert not torch.equal(base, aligned)
