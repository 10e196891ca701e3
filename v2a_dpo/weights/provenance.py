"""The official weights inside a generator, by its `config.json`, and the use that their licences allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from v2a_dpo.weights.catalog import FILES, NEEDED, OfficialFile

#: Families whose weights all come from this project's own training.
_OWN_FAMILIES = frozenset({"tiny"})


@dataclass(frozen=True)
class LicenceFlags:
    """The licences of a model's weights and of the scorers that selected its training pairs, and the use they allow.

    `commercial_use` is `forbidden` when any weights inside are non-commercial, because a model trained further from
    them is bound by their licence. It is `unknown` when a licence is not stated, when the origin is unknown, or when
    scorers that are not free selected the pairs, since it is not settled whether that binds the model. Otherwise it is
    `allowed`.
    """

    commercial_use: str
    weights: dict[str, str]
    scorers: dict[str, str]

    def tags(self) -> dict[str, str]:
        """The flags as a version's tags."""
        texts = {
            part: "; ".join(f"{name}: {licence}" for name, licence in licences.items()) or "none"
            for part, licences in (("weights", self.weights), ("scorers", self.scorers))
        }
        return {"licence.commercial_use": self.commercial_use} | {
            f"licence.{part}": text for part, text in texts.items()
        }


def licence_flags(config: Mapping[str, Any], *, scorers: str) -> LicenceFlags:
    """The flags of the generator with this `config.json`, with pairs selected by `official` or `tiny` scorers.

    Alignment changes the weights and leaves `config.json` as it is, so the origin shows in it before and after.
    """
    judges = [FILES[name] for name in NEEDED["scorers"]] if scorers == "official" else []
    inside = _official_weights(config)
    if inside is None:
        return LicenceFlags("unknown", {"generator": "origin unknown"}, _licences(judges))
    if any(file.noncommercial for file in inside):
        use = "forbidden"
    else:
        use = "allowed" if all(_is_free(file) for file in [*inside, *judges]) else "unknown"
    own = {} if inside else {"generator": "trained here from nothing"}
    return LicenceFlags(use, {**own, **_licences(inside)}, _licences(judges))


def _official_weights(config: Mapping[str, Any]) -> list[OfficialFile] | None:
    """The official files that a generator with this configuration is made of; None when that is unknown."""
    if config.get("family") in _OWN_FAMILIES:
        return []
    for file in FILES.values():
        if file.config() == config:
            return [FILES[name] for name in NEEDED[file.variant]]
    return None


def _is_free(file: OfficialFile) -> bool:
    return not file.noncommercial and "not stated" not in file.licence


def _licences(files: list[OfficialFile]) -> dict[str, str]:
    return {file.name: file.licence for file in files}
