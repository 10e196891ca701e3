"""MMAudio from its folder: the network's weights there, the frozen encoders and codec in `WEIGHTS_DIR`.

Networks are built without initial weights and take their tensors from the mapped files, so that memory holds them once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from v2a_dpo.errors import UserError
from v2a_dpo.models.base import Use
from v2a_dpo.models.loading import uninitialised
from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS, MelCodec
from v2a_dpo.models.mmaudio.config import VARIANTS, MMAudioConfig
from v2a_dpo.models.mmaudio.encoders import MMAudioEncoders
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import Sequences
from v2a_dpo.models.synchformer import VISUAL_PREFIX
from v2a_dpo.weights.store import Store

#: Codec name -> its autoencoder and its vocoder in the catalog of official files.
_CODEC_FILES = {"16k": ("mmaudio_vae_16k", "bigvgan_16k"), "44k": ("mmaudio_vae_44k", "bigvgan_v2_44k")}
_ENCODER_FILES = ("clip_dfn5b", "synchformer")


def codec_name(sample_rate: int) -> str:
    """The released codec of this sample rate; raises UserError when there is none."""
    for name, (mel, _) in OFFICIAL_CODECS.items():
        if mel.sample_rate == sample_rate:
            return name
    rates = ", ".join(str(mel.sample_rate) for mel, _ in OFFICIAL_CODECS.values())
    raise UserError(f"MMAudio has no codec at {sample_rate} Hz.", where="config.json", remedy=f"Use one of {rates}.")


def model_config(variant: str) -> dict[str, Any]:
    """The `config.json` of a released variant, as `MMAudioModel.save` writes it."""
    mel, _ = OFFICIAL_CODECS["16k" if variant.endswith("16k") else "44k"]
    return {"family": "mmaudio", "sample_rate": mel.sample_rate, "network": asdict(VARIANTS[variant])}


def load(folder: Path, device: torch.device) -> MMAudioModel:
    """The MMAudio generator in `folder`, on `device`, with the official encoders and codec of `WEIGHTS_DIR`.

    Encoders and codec are read when they are first used. Raises UserError that names what is missing or does not fit,
    and the command that brings it.
    """
    store = Store.default()
    codec = codec_name(_read_config(folder)[1])
    store.require(*_CODEC_FILES[codec], *_ENCODER_FILES)
    frozen: dict[Use, dict[str, Path]] = {
        "conditions": store.files(*_ENCODER_FILES),
        "decoding": store.files(*_CODEC_FILES[codec]),
    }
    return MMAudioModel(
        load_network(folder).to(device),
        Sequences.official(OFFICIAL_CODECS[codec][0]),
        load_encoders=lambda: _load_encoders(store).to(device),
        load_codec=lambda: _load_codec(store, codec).to(device),
        frozen_files=frozen,
    )


def _read_config(folder: Path) -> tuple[MMAudioConfig, int]:
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return MMAudioConfig(**content["network"]), int(content["sample_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "Import the official file again (`v2a-dpo weights import`), or align again."
        raise UserError(f"This is not MMAudio's config.json ({error!r}).", where=str(path), remedy=remedy) from error


def load_network(folder: Path) -> MMAudioNetwork:
    """The velocity network in the model `folder`; raises UserError when it is missing, damaged or does not fit."""
    config, _ = _read_config(folder)
    path = folder / "model.safetensors"
    network = uninitialised(lambda: MMAudioNetwork(config))
    try:
        network.load_state_dict(load_file(path), strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        remedy = "Import the official file again (`v2a-dpo weights import`), or align again."
        what = f"The network's weights are missing, damaged, or do not fit config.json: {error}"
        raise UserError(what, where=str(path), remedy=remedy) from error
    return network


def _load_encoders(store: Store) -> MMAudioEncoders:
    clip, sync = store.state("clip_dfn5b"), store.state("synchformer", prefix=VISUAL_PREFIX)
    encoders = uninitialised(MMAudioEncoders)
    encoders.clip.load_checkpoint(clip)
    encoders.sync.load_checkpoint(sync)
    return encoders.requires_grad_(False).eval()


def _load_codec(store: Store, name: str) -> MelCodec:
    autoencoder, vocoder = (store.state(file) for file in _CODEC_FILES[name])
    codec = uninitialised(lambda: MelCodec.official(name))
    codec.vae.load_checkpoint(autoencoder)
    codec.vocoder.load_checkpoint(vocoder)
    return codec.requires_grad_(False).eval()
