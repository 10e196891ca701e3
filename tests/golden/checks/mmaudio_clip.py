"""Golden checks of MMAudio's CLIP features and of the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from tests.golden.format import Case, Result, UnknownCaseError, check_filling, check_layout, equal, filled_state
from v2a_dpo.models.mmaudio.clip_features import ClipConfig, ClipFeatures, ClipTextConfig, ClipVisionConfig, tokenize


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    if "outputs" not in case.facts:
        for name, facts in case.facts.items():
            with torch.device("meta"):
                features = ClipFeatures(config_of(facts["config"]))
            yield from check_layout(f"{case.stem}: {name}", features.clip, facts)
        return
    yield from check_features(case)
    if "tokenizer" in case.facts:
        for example in case.facts["tokenizer"]["examples"]:
            repeated = re.fullmatch(r"(\S+) repeated (\d+) times with a blank after each", example["text"])
            text = (repeated[1] + " ") * int(repeated[2]) if repeated else example["text"]
            length = case.facts["tokenizer"]["shape"][1]
            padded = example["ids"] + [0] * (length - len(example["ids"]))
            ours = tokenize([text], context_length=length)[0].tolist()
            yield equal(f"{case.stem}: tokens of {example['text']!r}", ours, padded)


def config_of(given: dict) -> ClipConfig:
    """The configuration that a json describes."""
    vision, text = ClipVisionConfig(**given["vision_cfg"]), ClipTextConfig(**given["text_cfg"])
    return ClipConfig(given["embed_dim"], given["quick_gelu"], vision, text)


def check_features(case: Case) -> Iterator[Result]:
    """All outputs of one CLIP network."""
    features = ClipFeatures(config_of(case.facts["config"])).eval()
    state = case.group("weights")
    if not state:
        state = filled_state(features.clip, case.fill_seed)
        yield from check_filling(case.stem, state, case.facts["weights"].get("check", {}))
    features.load_checkpoint(state)
    plain: dict[str, Callable[[], Tensor]] = {
        "clip_features": lambda: features.frames(case.input("frames")),
        "text_features": lambda: features.text(case.input("tokens")),
        "text_hidden_unnormalised": lambda: features.text_states(case.input("tokens")),
        "normalised_frames_first": lambda: features.normalize_frames(case.input("frames")[:1, :1]),
    }

    def output(name: str) -> Tensor:
        if name not in plain:
            raise UnknownCaseError(name)
        return plain[name]()

    yield from case.compare_outputs(output)
