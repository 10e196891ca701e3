"""What an alignment is made from: pairs, candidates and conditions, checked to belong together and to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.schema import PAIRS
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.models.durations import check_conditions, check_latents


@dataclass(frozen=True)
class AlignmentInputs:
    """The pairs, and the folders of candidates and of conditions that hold their clips."""

    pairs: Dataset
    candidates: Sequence[Dataset]
    conditions: Sequence[Dataset]

    @staticmethod
    def open(pairs: str, candidates: Sequence[str], conditions: Sequence[str]) -> AlignmentInputs:
        """The data sets in these folders.

        Raises UserError when one is unfinished or of another kind, when the pairs were mined from other candidates, or
        when the candidates were made from other conditions.
        """
        inputs = AlignmentInputs(
            Dataset.open(pairs, PAIRS),
            [Dataset.open(item, "candidates") for item in candidates],
            [Dataset.open(item, "conditions") for item in conditions],
        )
        _check_origin(inputs.pairs, ("candidates", "rated_candidates"), inputs.candidates)
        for item in inputs.candidates:
            _check_origin(item, ("conditions",), inputs.conditions)
        return inputs

    @property
    def fingerprints(self) -> dict[str, str]:
        """A digest of the content of each kind; the order of folders does not count."""
        return {
            "pairs": self.pairs.fingerprint,
            "candidates": fingerprint(sorted(item.fingerprint for item in self.candidates)),
            "conditions": fingerprint(sorted(item.fingerprint for item in self.conditions)),
        }

    def check_duration(self, model: VideoToAudioModel, duration_s: float) -> None:
        """Raises UserError unless latents and conditions are those of clips of `duration_s` seconds for `model`."""
        for item in self.candidates:
            check_latents(item, model, duration_s)
        for item in self.conditions:
            check_conditions(item, model, duration_s)


def _check_origin(made: Dataset, roles: Sequence[str], given: Sequence[Dataset]) -> None:
    """Raises UserError unless all that `made` was made of, as its manifest tells under `roles`, is among `given`."""
    origins = {role: made.manifest.inputs[role] for role in roles if role in made.manifest.inputs}
    known = {item.fingerprint for item in given}
    what = roles[0]
    for origin in origins.values() or [None]:
        if origin not in known:
            told = f"from {what} with the fingerprint {origin}" if origin else f"from {what} that it does not name"
            raise UserError(
                f"The {made.manifest.schema_name} in {made.folder} were made {told}; given are {_listed(given)}.",
                where=", ".join(item.folder for item in given),
                remedy=f"Name every folder of {what} that they were made from, or make them anew from these.",
            )


def _listed(given: Sequence[Dataset]) -> str:
    return ", ".join(f"{item.folder} ({item.fingerprint})" for item in given)
