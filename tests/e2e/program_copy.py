"""A copy of the program's sources that a test may change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests import forked

ROOT = Path(__file__).parents[2]
#: (file, its line, the line of the copy): networks of the official layouts that a test can afford.
_SMALL = (
    ("models/mmaudio/clip_features.py", "layers: int = 32", "layers: int = 1"),
    ("models/mmaudio/clip_features.py", "width: int = 1280", "width: int = 16"),
    ("models/mmaudio/clip_features.py", "head_width: int = 80", "head_width: int = 8"),
    ("models/mmaudio/clip_features.py", "patch_size: int = 14", "patch_size: int = 126"),
    ("models/mmaudio/clip_features.py", "width: int = 1024", "width: int = 16"),
    ("models/mmaudio/clip_features.py", "heads: int = 16", "heads: int = 2"),
    ("models/mmaudio/clip_features.py", "layers: int = 24", "layers: int = 1"),
    ("models/mmaudio/clip_features.py", "embed_dim: int = 1024", "embed_dim: int = 16"),
    ("models/synchformer.py", "width: int = 768", "width: int = 16"),
    ("models/synchformer.py", "depth: int = 12", "depth: int = 1"),
    ("models/synchformer.py", "num_heads: int = 12", "num_heads: int = 2"),
    ("models/synchformer.py", "patch_size: int = 16", "patch_size: int = 112"),
    ("models/mmaudio/vae.py", '"16k": (20, 384)', '"16k": (20, 8)'),
    ("models/vocoder.py", "upsample_initial_channel: int = 1536", "upsample_initial_channel: int = 64"),
)


class ProgramCopy:
    """The sources below `folder`, and the program as they make it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        for package in ("v2a_dpo", "components", "pipelines"):
            shutil.copytree(ROOT / package, folder / package)
        self.environment = {**os.environ, "PYTHONPATH": str(folder), **environment}

    def edit(self, name: str, old: str, new: str) -> None:
        """Replaces `old`, which must be there, in a file of the library."""
        path = self.folder / "v2a_dpo" / name
        text = path.read_text()
        assert old in text, f"{name} holds no {old!r}"
        path.write_text(text.replace(old, new))

    def make_small(self) -> None:
        """Shrinks MMAudio's frozen networks; their layouts stay."""
        for edit in _SMALL:
            self.edit(*edit)

    def __call__(self, *arguments: str) -> str:
        """What the command line prints, messages included; it must succeed."""
        return self.run("v2a_dpo.cli", *arguments)

    def run(self, program: str, *arguments: str) -> str:
        """What a module or a file, as a program with these sources, prints."""
        done = forked.run(program, *arguments, folder=self.folder, environment=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())
