from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "v2a_dpo"
_PROGRAM = (
    "import json, sys; from v2a_dpo.artifacts.code import code_of; "
    "print(json.dumps(dict(code_of(*sys.argv[1:]).functions)))"
)

MINE = "v2a_dpo.stages.mine:mine"
ENCODERS = "v2a_dpo.models.mmaudio.encoders:MMAudioEncoders"
CODEC = "v2a_dpo.models.mmaudio.codec:MelCodec"


class Copy:
    """A copy of the package's sources that a test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACKAGE, folder / "v2a_dpo", ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / "v2a_dpo" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def functions(self, *roots: str) -> dict[str, str]:
        environment = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", _PROGRAM, *roots]
        output = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(output.stdout)
        return found

    def changed(self, before: dict[str, str], *roots: str) -> set[str]:
        after = self.functions(*roots)
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_changed_formula_is_named_by_its_function_and_by_no_other(copy: Copy) -> None:
    before = copy.functions(MINE)
    assert {"mine", "complexity", "mine_pairs", "AudioScore.probabilities", "HARD"} <= before.keys()
    copy.edit("preference/pairs.py", "first_G = np.zeros(num_groups", "first_G = np.ones(num_groups")
    assert copy.changed(before, MINE) == {"_group_argmax"}


def test_a_line_of_the_encoders_does_not_touch_the_codec(copy: Copy) -> None:
    encoders, codec = copy.functions(ENCODERS), copy.functions(CODEC)
    copy.edit("models/mmaudio/clip_features.py", "def tokenize(", "_UNUSED = 1\n\n\ndef tokenize(")
    assert not copy.changed(encoders, ENCODERS)  # nothing uses it
    copy.edit("models/mmaudio/encoders.py", "/ 255.0", "/ 256.0")
    assert copy.changed(encoders, ENCODERS) == {"MMAudioEncoders._clip_features", "MMAudioEncoders._sync_features"}
    assert not copy.changed(codec, CODEC)


def test_comments_docstrings_layout_and_type_hints_do_not_count(copy: Copy) -> None:
    before = copy.functions(MINE)
    copy.edit("preference/pairs.py", "def complexity(", "# a comment\n\n\ndef complexity(")
    copy.edit("preference/pairs.py", '    """One pair for each clip', '    """Another text: one pair for each clip')
    copy.edit("preference/pairs.py", "min_margin: float = 0.0", "min_margin: object = 0.0")
    copy.edit(
        "preference/pairs.py",
        "    keep_G = np.ones(num_clips, dtype=bool)",
        "    keep_G = np.ones(\n        num_clips, dtype=bool\n    )",
    )
    assert not copy.changed(before, MINE)


def test_a_module_may_be_renamed_and_a_function_moved_to_another(copy: Copy) -> None:
    before = copy.functions(MINE)
    package = copy.folder / "v2a_dpo"
    (package / "preference/pairs.py").rename(package / "pair_mining.py")
    for file in package.rglob("*.py"):
        file.write_text(file.read_text().replace("v2a_dpo.preference.pairs", "v2a_dpo.pair_mining"))
    source = (package / "pair_mining.py").read_text()
    start = source.index("def split_threshold(")
    end = source.index("def with_phases(")
    moved = (
        "from __future__ import annotations\n\nimport numpy as np\nimport pyarrow as pa\nimport pyarrow.compute as pc\n"
    )
    moved += (
        "from v2a_dpo.config import Threshold\nfrom v2a_dpo.errors import UserError\n\nAUDIOSCORE = 'audioscore'\n\n\n"
    )
    moved += source[start:end]
    (package / "curriculum.py").write_text(moved)
    (package / "pair_mining.py").write_text(source[:start] + source[end:])
    mining = (package / "preference" / "mining.py").read_text()
    mining = mining.replace("split_threshold, with_phases", "with_phases")
    mining = mining.replace(
        "from v2a_dpo.progress", "from v2a_dpo.curriculum import split_threshold\nfrom v2a_dpo.progress"
    )
    (package / "preference" / "mining.py").write_text(mining)
    # AUDIOSCORE stands twice now, which is all that is seen.
    assert copy.changed(before, MINE) <= {"AUDIOSCORE"}


def test_how_artifacts_are_stored_and_reported_does_not_count(copy: Copy) -> None:
    names = copy.functions("v2a_dpo.stages.generate:generate")
    assert {"generate", "CandidateEngine._draw", "row_noise", "encode_flac"} <= names.keys()
    assert not {"build_dataset", "Dataset", "UserError", "Params", "load_generator", "silent"} & names.keys()


def test_an_abstract_method_more_changes_nothing_and_an_imported_function_is_followed(copy: Copy) -> None:
    root = "v2a_dpo.generation.engine:CandidateEngine"
    before = copy.functions(root)
    copy.edit(
        "models/base.py",
        "    @abstractmethod\n    def decode(",
        '    def new(self) -> None:\n        """Abstract."""\n\n    @abstractmethod\n    def decode(',
    )
    assert not copy.changed(before, root)
    copy.edit("media/audio.py", "def encode_flac(", "@staticmethod\ndef encode_flac(")
    assert copy.changed(before, root) == {"encode_flac"}


def test_a_method_reaches_the_members_that_it_uses_and_no_others(copy: Copy) -> None:
    found = copy.functions("v2a_dpo.generation.engine:CandidateEngine.generate")
    assert {"CandidateEngine.generate", "CandidateEngine._draw", "CandidateEngine._encode"} <= found.keys()
    assert "CandidateEngine.__init__" not in found


def test_names_taken_of_a_module_and_imports_inside_a_function_are_followed(copy: Copy) -> None:
    assert "BandTrunk.forward" in copy.functions("v2a_dpo.tiny.scoring:load_taggers")  # networks.BandTrunk
    root = "v2a_dpo.tiny.rater:simulated_rater"
    before = copy.functions(root)
    assert "judge" in before
    assert "render_frames" not in before
    imported = "    from v2a_dpo.tiny.render import render_frames\n\n    render_frames\n"
    read = "    clip_events = read_events(events)\n"
    copy.edit("tiny/rater.py", read, imported + read)
    assert "render_frames" in copy.functions(root)


def test_every_stage_hands_its_code_on_to_what_writes_artifacts_and_keeps_them_on_request() -> None:
    calls = [
        (file.name, node)
        for file in PACKAGE.rglob("*.py")
        if file.parent.name != "artifacts"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("build_dataset", "working_folder")
    ]
    assert len(calls) >= 11
    assert not [name for name, call in calls if not {"code", "keep"} <= {keyword.arg for keyword in call.keywords}]


def test_a_root_that_does_not_exist_is_an_error(copy: Copy) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        copy.functions("v2a_dpo.no_such_module:name")
    with pytest.raises(subprocess.CalledProcessError):
        copy.functions("v2a_dpo.preference.pairs:no_such_name")
