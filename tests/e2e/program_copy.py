"""A copy of the program's sources that a test may change, and small official weights for it.

As a program: writes random weights in the official layouts, at the sizes that the sources say, to WEIGHTS_DIR and a
generator's folder, its argument.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
        return self.python("-m", "v2a_dpo.cli", *arguments)

    def python(self, *arguments: str) -> str:
        """What a Python of these sources prints."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return " ".join(done.stdout.split())


def write_weights(generator: Path) -> None:
    """Random weights for MMAudio's small_16k at the sources' sizes."""
    import torch
    from safetensors.torch import save_file

    from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS, MelCodec
    from v2a_dpo.models.mmaudio.config import MMAudioConfig
    from v2a_dpo.models.mmaudio.encoders import MMAudioEncoders
    from v2a_dpo.models.mmaudio.model import MMAudioModel
    from v2a_dpo.models.mmaudio.network import MMAudioNetwork
    from v2a_dpo.models.mmaudio.sequence import Sequences
    from v2a_dpo.models.synchformer import VISUAL_PREFIX
    from v2a_dpo.weights.store import MODEL_FILE, RECORD_FILE, Store, WeightsRecord

    torch.manual_seed(1)
    encoders, codec = MMAudioEncoders(), MelCodec.official("16k")
    states = {
        "clip_dfn5b": encoders.clip.clip.state_dict(),
        "synchformer": {VISUAL_PREFIX + key: value for key, value in encoders.sync.state_dict().items()},
        "mmaudio_vae_16k": codec.vae.state_dict(),
        "bigvgan_16k": codec.vocoder.generator.state_dict(),
    }
    store = Store.default()
    for name, state in states.items():
        folder = store.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in state.items()}, folder / MODEL_FILE)
        record = WeightsRecord(
            name=name, source_file="", source_bytes=0, source_md5="", source_sha256="", trust="unverified",
            licence="", tensors=len(state), parameters=0, sha256="", bytes=0,
        )  # fmt: skip
        (folder / RECORD_FILE).write_text(record.model_dump_json())
    config = MMAudioConfig(
        latent_channels=20, hidden_size=16, num_heads=2, num_joint_blocks=1, num_fused_blocks=1,
        clip_dim=16, sync_dim=16, text_dim=16, text_length=77, mlp_multiple_of=8,
    )  # fmt: skip
    network = MMAudioNetwork(config, generator=torch.Generator().manual_seed(1))
    sequences = Sequences.official(OFFICIAL_CODECS["16k"][0])
    MMAudioModel(network, sequences, load_encoders=lambda: encoders, load_codec=lambda: codec).save(generator)


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]))
