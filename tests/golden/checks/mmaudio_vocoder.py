"""Golden checks of BigVGAN vocoders: layouts, the anti-aliasing filter, stored and filled weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tests.golden.format import Case, Result, UnknownCaseError, check_filling, check_layout, compare, filled_state
from v2a_dpo.models.vocoder import BIGVGAN_16K, BIGVGAN_V2_44K, Vocoder, VocoderConfig

OFFICIAL = {"16k": BIGVGAN_16K, "44k": BIGVGAN_V2_44K}


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    if "taps" in case.facts:
        filters = Vocoder(VocoderConfig(4, (2,), (4,), 8)).generator.state_dict()
        for key in ("upsample.filter", "downsample.lowpass.filter"):
            ours = filters[f"resblocks.0.activations.0.{key}"].flatten()
            yield compare(f"{case.stem}: {key}", ours, torch.tensor(case.facts["taps"]), tolerance=1e-7)
    elif "configs" in case.facts:
        for name, given in case.facts["configs"].items():
            yield from check_generator(case, name, config_of(given))
        configured = tuple(f"{name}." for name in case.facts["configs"])
        for name in sorted(case.outputs):
            if not name.startswith(configured):
                raise UnknownCaseError(f"outputs.{name} of a vocoder without a configuration")
    else:
        for name, facts in case.facts.items():
            with torch.device("meta"):
                vocoder = Vocoder(config_of(facts["config"]) if "config" in facts else OFFICIAL[name])
            yield from check_layout(f"{case.stem}: {name}", vocoder.generator, facts)


def config_of(given: dict) -> VocoderConfig:
    """The configuration that a json describes."""

    def frozen(value: object) -> object:
        return tuple(map(frozen, value)) if isinstance(value, list) else value

    return VocoderConfig(**{key: frozen(value) for key, value in given.items()})


def check_generator(case: Case, variant: str, config: VocoderConfig) -> Iterator[Result]:
    """All outputs of one vocoder."""
    vocoder = Vocoder(config).eval()
    state = case.group(f"weights.{variant}")
    if not state:
        state = filled_state(vocoder.generator, case.fill_seed)
        checks = case.facts["weights"].get("check", {})
        yield from check_filling(f"{case.stem}: {variant}", state, checks.get(variant, checks))
    vocoder.load_checkpoint(state)

    def output(kind: str) -> Tensor:
        return (
            vocoder(case.input(f"{variant}.mel"))[:, None] if kind == "audio" else stage(vocoder, kind, case, variant)
        )

    yield from case.compare_outputs(output, prefix=f"{variant}.")


def stage(vocoder: Vocoder, kind: str, case: Case, variant: str) -> Tensor:
    """A stage of the generator by its name in the json."""
    generator = vocoder.generator
    activation = generator.get_submodule("resblocks.0.activations.0")
    first = {"act_upsampled": "upsample", "act_downsampled": "downsample", "activation": ""}
    if kind in first:
        module = activation.get_submodule(first[kind]) if first[kind] else activation
        return module(case.input(f"{variant}.act_in"))
    if kind == "conv_pre":
        return generator.get_submodule("conv_pre")(case.input(f"{variant}.mel"))
    if kind == "ups0":
        return generator.get_submodule("ups.0.0")(stage(vocoder, "conv_pre", case, variant))
    match = re.fullmatch(r"resblock(\d+)", kind)
    if match and int(match[1]) < len(vocoder.config.resblock_kernel_sizes):
        return generator.get_submodule(f"resblocks.{match[1]}")(stage(vocoder, "ups0", case, variant))
    raise UnknownCaseError(f"{variant}.{kind}")
