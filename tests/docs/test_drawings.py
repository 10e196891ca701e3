"""The drawings and the code tour agree with the code: floors, stages, and the names to look at."""

import configparser
import re
from xml.etree import ElementTree

from tests.docs.pages import ROOT
from tests.docs.test_commands import PROGRAM

SVG = "{http://www.w3.org/2000/svg}"


def labels(drawing: str, kind: str) -> list[tuple[float, str]]:
    """Height and text of the labels of one kind."""
    root = ElementTree.parse(ROOT / "docs" / "images" / drawing).getroot()
    return [(float(text.get("y")), text.text) for text in root.iter(f"{SVG}text") if text.get("class") == kind]


def test_the_house_is_drawn_with_the_floors_that_the_imports_keep_to():
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    lines = config["importlinter:contract:floors"]["layers"].split("\n")
    floors = [set(re.findall(r"\w+", line)) for line in lines if line]
    drawn: dict[float, set[str]] = {}
    for height, room in labels("house.svg", "room"):
        drawn.setdefault(height, set()).add(room)
    assert [drawn[height] for height in sorted(drawn)] == floors


def test_every_stage_of_the_drawn_loop_is_a_command():
    stages = [stage for _, stage in labels("loop.svg", "stage")]
    assert len(stages) == 12
    assert set(stages) <= PROGRAM.commands.keys()


def test_the_code_tour_names_what_its_files_hold():
    rows = re.findall(r"^\| `(v2a_dpo/[\w/.]+)` \| .* \| (.*) \|$", (ROOT / "docs" / "code-tour.md").read_text(), re.M)
    assert len(rows) == 6
    for file, names in rows:
        source = (ROOT / file).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", source), f"{file}: {name}"
    readme = re.findall(r"^\d\. \[(v2a_dpo/[\w/.]+)\]", (ROOT / "README.md").read_text(), re.M)
    assert readme == [file for file, _ in rows]
