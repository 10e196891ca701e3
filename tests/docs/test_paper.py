"""The page about the paper, and every mention of it: numbers that the presets have, sections and settings that
exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.alignment import align, align_on_cluster
from components.candidates import generate
from components.preference import mine, train_audioscore
from components.sweep_cells import plan_sweep
from v2a_dpo.config import Params
from v2a_dpo.params import load_params

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
SECTIONS = {"2.1", "2.2", "2.3", "3.1", "3.2"}
VERDICTS = ("same", "choice", "corrected", "later", "background")
#: How sections are cited: "paper 2.3", "section 3.1", "sections 3.1 and 3.2", "paper (2.1, 2.2 and 3.1)".
CITATION = re.compile(r"\b(?:paper|sections?)\b (?:section )?\(?((?:\d\.\d(?:, | and | to )?)+)")


def rows(number_of_columns=3):
    """The cells of all lines of tables, without their headers."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if len(row) == number_of_columns and row[0] not in ("paper", "score")]


def setting(params, name):
    value = params
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("preset", ["mmaudio-large-44k", "mmaudio-small-16k"])
def test_the_papers_presets_have_the_numbers_of_the_page(preset):
    params = load_params(ROOT / "configs" / f"{preset}.yaml")
    found = {
        row[1].strip("`"): float(row[2]) for row in rows() if re.fullmatch(r"`[\w.]+`", row[1]) and row[2][0].isdigit()
    }
    assert len(found) == 10
    assert {name: setting(params, name) for name in found} == found


def test_each_row_begins_its_verdict_with_a_word_of_the_legend():
    verdicts = [row[2] for row in rows() if not row[2][0].isdigit() and "`" not in row[0]]
    assert len(verdicts) > 30
    assert [verdict for verdict in verdicts if not re.match("|".join(VERDICTS), verdict)] == []


def test_files_and_settings_that_the_page_names_are_there():
    names = set(re.findall(r"`([\w./-]+)`", PAGE))
    files = {name for name in names if "/" in name and name != "alignment/log.jsonl"}
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).exists()] == []
    sections = Params.model_fields
    settings = {name for name in names - files if name.partition(".")[0] in sections and "." in name}
    assert len(settings) > 10
    for name in settings:
        setting(Params(), name)


def test_only_sections_and_equations_that_the_paper_has_are_cited():
    cited = []
    for folder in ("v2a_dpo", "components", "pipelines", "configs", "docs", "benchmarks", "docker"):
        for path in [*(ROOT / folder).rglob("*"), ROOT / "README.md", ROOT / "dvc.yaml"]:
            if path.suffix in (".py", ".md", ".yaml"):
                text = " ".join(path.read_text(encoding="utf-8").split())
                for citation in CITATION.findall(text):
                    cited += [(path.name, number) for number in re.findall(r"\d\.\d", citation)]
                assert {int(number) for number in re.findall(r"\bEq\. (\d)", text)} <= {1, 2, 3, 4, 5}
    assert len(cited) > 15
    assert {item for item in cited if item[1] not in SECTIONS} == set()


@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("v2a_dpo/preference/audioscore.py", "2.1"),
        ("v2a_dpo/stages/train_audioscore.py", "2.1"),
        ("v2a_dpo/preference/pairs.py", "2.2"),
        ("v2a_dpo/stages/generate.py", "2.2"),
        ("v2a_dpo/stages/mine.py", "2.2"),
        ("v2a_dpo/stages/align.py", "2.3"),
        ("configs/mmaudio-large-44k.yaml", "3.1"),
        ("configs/mmaudio-small-16k.yaml", "3.1"),
        ("v2a_dpo/config.py", "3.1"),
        ("v2a_dpo/orchestration/sweep.py", "3.2"),
        ("pipelines/sweep.py", "3.2"),
    ],
)
def test_each_step_cites_the_section_that_it_is_in_first(file, section):
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    assert CITATION.findall(text)[0].startswith(section)


@pytest.mark.parametrize(
    ("component", "section"),
    [
        (train_audioscore, "2.1"),
        (generate, "2.2"),
        (mine, "2.2"),
        (align, "2.3"),
        (align_on_cluster, "2.3"),
        (plan_sweep, "3.2"),
    ],
)
def test_each_component_cites_the_section_that_it_is_in_first(component, section):
    assert CITATION.findall(component.description)[0].startswith(section)
