"""What an alignment is made from: pairs, candidates and conditions, checked to belong together and to the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.location import join, open_input
from v2a_dpo.artifacts.schema import PAIRS, tensor_type
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import VideoToAudioModel


@dataclass(frozen=True)
class AlignmentInputs:
    """The pairs, and the folders of candidates and of conditions that hold their clips."""

    pairs: Dataset
    candidates: Sequence[Dataset]
    conditions: Sequence[Dataset]

    @staticmethod
    def open(pairs: str, candidates: Sequence[str], conditions: Sequence[str]) -> AlignmentInputs:
        """The data sets in these folders.

        Raises UserError when one is unfinished or of another kind, when the pairs were mined from other candidates, or when
        the candidates were made from other conditions.
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
        empty = model.empty_conditions(duration_s).tensors
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in empty.items()}
        for item in self.candidates:
            _check_shapes(item, {"latent": model.latent_shape(duration_s)}, duration_s)
        for item in self.conditions:
            _check_shapes(item, shapes, duration_s)


def arrow_schema(source: Dataset) -> pa.Schema:
    """The columns of a data set, as its first shard has them."""
    with open_input(join(source.folder, source.shards[0].name)) as file:
        return pq.ParquetFile(file).schema_arrow


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


def _check_shapes(source: Dataset, expected: Mapping[str, tuple[int, ...]], duration_s: float) -> None:
    """Raises UserError unless the tensor columns of `source` have the `expected` shapes."""
    found = dict(_shapes(source))
    for name, shape in expected.items():
        if found.get(name) != shape:
            raise UserError(
                f"These {source.manifest.schema_name} are not those of clips of {duration_s:g} s for this generator: "
                f"{name} has the shape {found.get(name)}, {shape} is needed.",
                where=source.folder,
                remedy="Set prepare.duration_s to what they were made with, or make them anew.",
            )


def _shapes(source: Dataset) -> Iterator[tuple[str, tuple[int, ...]]]:
    for field in arrow_schema(source):
        if field.metadata and b"shape" in field.metadata:
            yield field.name, tensor_type(field).shape
