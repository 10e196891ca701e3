"""Every official file that the project reads: its source, licence, size, checksum and layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from v2a_dpo.errors import UserError

_MMAUDIO_FILES = "https://huggingface.co/hkchengrex/MMAudio/resolve/main/weights/"
_MMAUDIO_RELEASE = "https://github.com/hkchengrex/MMAudio/releases/download/v0.1/"
_LAYOUTS = "v2a_dpo.models.mmaudio.layouts:"
#: Buffers in some MMAudio files that the network computes itself.
_MMAUDIO_LEGACY = frozenset({"t_embed.freqs", "latent_rot", "clip_rot"})


@dataclass(frozen=True)
class OfficialFile:
    """One released file.

    `md5` is None where none is published; the first import then records the checksum. `size_mib` is that of its
    numbers in float32, which upstream gives rounded up; None for a file that holds more than its weights. `layout` is
    the import path `module:function` of a function from `variant` to the accepted layouts; without it
    `layouts/<name>.json` holds the only one. The weights may be below one of the keys `containers`, with `prefix` in
    front of their names; `dropped` keys are left out. For generators `model_config` is the import path of a function
    from `variant` to the `config.json` that makes the weights a model folder.
    """

    name: str
    file_name: str
    url: str
    role: str
    licence: str
    md5: str | None = None
    size_mib: float | None = None
    layout: str | None = None
    variant: str = ""
    containers: tuple[str, ...] = ()
    prefix: str = ""
    dropped: frozenset[str] = frozenset()
    model_config: str | None = None

    @property
    def noncommercial(self) -> bool:
        """Whether the licence, a Creative Commons one, forbids commercial use."""
        return "-NC" in self.licence

    def config(self) -> dict[str, Any] | None:
        """The content of a generator's `config.json`; None for other files."""
        return resolve_name(self.model_config)(self.variant) if self.model_config else None


def _mmaudio(variant: str, md5: str, size_mib: float) -> OfficialFile:
    return OfficialFile(
        name=f"mmaudio_{variant}",
        file_name=f"mmaudio_{variant}.pth",
        url=f"{_MMAUDIO_FILES}mmaudio_{variant}.pth",
        role=f"MMAudio generator {variant}",
        licence="CC BY-NC 4.0",
        md5=md5,
        size_mib=size_mib,
        layout=_LAYOUTS + "network_layouts",
        variant=variant,
        dropped=_MMAUDIO_LEGACY,
        model_config="v2a_dpo.models.mmaudio.checkpoint:model_config",
    )


def _mmaudio_vae(variant: str, rate: str, file_name: str, md5: str, size_mib: float) -> OfficialFile:
    return OfficialFile(
        name=f"mmaudio_vae_{variant}",
        file_name=file_name,
        url=_MMAUDIO_RELEASE + file_name,
        role=f"MMAudio's mel autoencoder at {rate}",
        licence="CC BY-NC 4.0",
        md5=md5,
        size_mib=size_mib,
        layout=_LAYOUTS + "autoencoder_layouts",
        variant=variant,
    )


_ALL = (
    _mmaudio("small_16k", "af93cde404179f58e3919ac085b8033b", 600),
    _mmaudio("small_44k", "babd74c884783d13701ea2820a5f5b6d", 600),
    _mmaudio("medium_44k", "5a56b6665e45a1e65ada534defa903d0", 2372),
    _mmaudio("large_44k", "fed96c325a6785b85ce75ae1aafd2673", 3929),
    _mmaudio("large_44k_v2", "01ad4464f049b2d7efdaa4c1a59b8dfe", 3931),
    _mmaudio_vae("16k", "16 kHz", "v1-16.pth", "69f56803f59a549a1a507c93859fd4d7", 655),
    _mmaudio_vae("44k", "44.1 kHz", "v1-44.pth", "fab020275fa44c6589820ce025191600", 1165),
    OfficialFile(
        name="bigvgan_16k",
        file_name="best_netG.pt",
        url=_MMAUDIO_RELEASE + "best_netG.pt",
        role="vocoder at 16 kHz, from Make-An-Audio 2",
        licence="not stated for the weights (BigVGAN code: MIT)",
        md5="eeaf372a38a9c31c362120aba2dde292",
        size_mib=428,
        layout=_LAYOUTS + "vocoder_layouts",
        variant="16k",
        containers=("generator",),
    ),
    OfficialFile(
        name="bigvgan_v2_44k",
        file_name="bigvgan_generator.pt",
        url="https://huggingface.co/nvidia/bigvgan_v2_44khz_128band_512x/resolve/main/bigvgan_generator.pt",
        role="vocoder at 44.1 kHz, BigVGAN v2",
        licence="MIT",
        size_mib=466,
        layout=_LAYOUTS + "vocoder_layouts",
        variant="44k",
        containers=("generator",),
    ),
    OfficialFile(
        name="clip_dfn5b",
        file_name="open_clip_pytorch_model.bin",
        url="https://huggingface.co/apple/DFN5B-CLIP-ViT-H-14-378/resolve/main/open_clip_pytorch_model.bin",
        role="CLIP ViT-H-14-378, MMAudio's pictures and words",
        licence="Apple Sample Code License",
        size_mib=3764,
        layout=_LAYOUTS + "clip_layouts",
        containers=("state_dict",),
    ),
    OfficialFile(
        name="synchformer",
        file_name="synchformer_state_dict.pth",
        url=_MMAUDIO_RELEASE + "synchformer_state_dict.pth",
        role="Synchformer: MMAudio's motion features, DeSync score",
        licence="not stated for the weights (code: MIT)",
        md5="5b2f5594b0730f70e41e549b7c94390c",
        size_mib=906,
        containers=("model",),
    ),
    OfficialFile(
        name="imagebind",
        file_name="imagebind_huge.pth",
        url="https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",
        role="ImageBind: semantic score of sound and video",
        licence="CC BY-NC-SA 4.0",
        size_mib=4580,
    ),
    OfficialFile(
        name="clap",
        file_name="music_speech_audioset_epoch_15_esc_89.98.pt",
        url="https://huggingface.co/lukewys/laion_clap/resolve/main/music_speech_audioset_epoch_15_esc_89.98.pt",
        role="LAION-CLAP: semantic score of sound and text",
        licence="not stated for the weights (code: CC0-1.0)",
        containers=("state_dict",),
        prefix="module.",
        dropped=frozenset({"text_branch.embeddings.position_ids"}),
    ),
    OfficialFile(
        name="clap_ms",
        file_name="CLAP_weights_2023.pth",
        url="https://huggingface.co/microsoft/msclap/resolve/main/CLAP_weights_2023.pth",
        role="Microsoft's CLAP, the paper's: semantic score of sound and text",
        licence="not stated for the weights (code: MIT)",
        containers=("model",),
    ),
    OfficialFile(
        name="panns_cnn14_16k",
        file_name="Cnn14_16k_mAP=0.438.pth",
        url="https://zenodo.org/record/3987831/files/Cnn14_16k_mAP%3D0.438.pth",
        role="PANNs Cnn14: inception score, FD and KL",
        licence="CC BY 4.0",
        size_mib=309,
        containers=("model",),
    ),
    OfficialFile(
        name="passt",
        file_name="passt-s-f128-p16-s10-ap.476-swa.pt",
        url="https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
        role="PaSST: FD and KL",
        licence="Apache-2.0",
        size_mib=329,
    ),
)

FILES: dict[str, OfficialFile] = {file.name: file for file in _ALL}

_SHARED = ("clip_dfn5b", "synchformer")
_CODECS = {"16k": ("mmaudio_vae_16k", "bigvgan_16k"), "44k": ("mmaudio_vae_44k", "bigvgan_v2_44k")}

#: Model variant (or `scorers`) -> the files that it needs.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "scorers": ("imagebind", "clap", "synchformer", "panns_cnn14_16k", "passt"),
} | {
    file.variant: (file.name, *_CODECS["16k" if "16k" in file.variant else "44k"], *_SHARED)
    for file in _ALL
    if file.model_config is not None
}


def official_file(name: str) -> OfficialFile:
    """The file called `name` in the catalog; raises UserError that lists the names when there is none."""
    if name not in FILES:
        remedy = f"Use one of {', '.join(FILES)}."
        raise UserError(f"There is no official file called {name!r}.", where="name", remedy=remedy)
    return FILES[name]


def file_named_like(path: Path) -> OfficialFile:
    """The official file with the file name of `path`; raises UserError when there is none."""
    for file in FILES.values():
        if path.name in (file.file_name, f"{file.name}.safetensors"):
            return file
    known = ", ".join(f"{file.file_name} ({file.name})" for file in FILES.values())
    remedy = f"Name it with --as NAME: {known}."
    raise UserError(f"No official file is called {path.name!r}.", where=str(path), remedy=remedy)


def names_in(names: list[str]) -> list[str]:
    """`names` with every group of `NEEDED` replaced by its files, each once, in order."""
    expanded = [file for name in names for file in NEEDED.get(name, (name,))]
    return list(dict.fromkeys(official_file(name).name for name in expanded))
