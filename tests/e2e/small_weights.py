"""As a program: random weights for MMAudio's small_16k in the official layouts, at the sizes that the sources say.

They go to WEIGHTS_DIR and a generator's folder, the argument.
"""

from __future__ import annotations

import sys
from pathlib import Path

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


def write_weights(generator: Path) -> None:
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
