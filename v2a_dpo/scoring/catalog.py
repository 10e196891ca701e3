"""From a scorers folder to its scorers and taggers, by the kind that `score.scorers` names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.errors import UserError
from v2a_dpo.scoring.base import AudioTagger, Scorer
from v2a_dpo.scoring.pesq import SpeechQuality

#: Kind -> module with `load_scorers(folder)` and `load_taggers(folder)`. A path, so that only the kind
#: in use is imported.
KINDS = {"tiny": "v2a_dpo.tiny.scoring"}


def load_scorers(kind: str, folder: str, *, pesq_workers: int = 1) -> dict[str, Scorer]:
    """The five scorers by name, in the order of the paper: four of `kind` from `folder`, and PESQ, which needs no
    weights.

    Raises UserError when `kind` is unknown or the folder is incomplete.
    """
    module = _module(kind)
    with local_copy(folder) as local:
        scorers: list[Scorer] = [*module.load_scorers(local), SpeechQuality(workers=pesq_workers)]
    return {scorer.name: scorer for scorer in scorers}


def load_taggers(kind: str, folder: str) -> Mapping[str, AudioTagger]:
    """The taggers `panns` and `passt` of `kind` from `folder`; raises UserError as `load_scorers` does."""
    module = _module(kind)
    with local_copy(folder) as local:
        taggers: Mapping[str, AudioTagger] = module.load_taggers(local)
    return taggers


def _module(kind: str) -> ModuleType:
    if kind not in KINDS:
        raise UserError(
            f"There are no scorers called {kind!r}.", where="score.scorers", remedy=f"Choose one of {', '.join(KINDS)}."
        )
    return import_module(KINDS[kind])
