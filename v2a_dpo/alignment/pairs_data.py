"""What an alignment is made from: pairs, candidates and conditions, checked to belong together.

The pairs' latents and conditions are gathered once from the shard folders and then memory-mapped: a training step reads
only the rows it needs, and there is no Parquet, no FLAC and no codec in the loop.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from v2a_dpo.alignment.batch import PairBatch
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.location import join, open_input
from v2a_dpo.artifacts.schema import PAIRS, tensor_column, tensor_type
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import Conditions, VideoToAudioModel
from v2a_dpo.models.durations import check_conditions, check_latents
from v2a_dpo.progress import Progress, silent
from v2a_dpo.randomness import normal, row_generator, uniform

_CACHE = "pairs-"


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


def _check_origin(result: Dataset, roles: Sequence[str], sources: Sequence[Dataset]) -> None:
    """Raises UserError unless all inputs of `result`, recorded in its manifest under `roles`, are among `sources`."""
    recorded = [result.manifest.inputs[role] for role in roles if role in result.manifest.inputs]
    what = roles[0]
    for origin in recorded or [""]:
        if origin not in {item.fingerprint for item in sources}:
            named = f"with the fingerprint {origin}" if origin else "that it does not name"
            given = ", ".join(f"{item.folder} ({item.fingerprint})" for item in sources)
            kind = result.manifest.schema_name
            raise UserError(
                f"The {kind} in {result.folder} were made from {what} {named}; given are {given}.",
                where=", ".join(item.folder for item in sources),
                remedy=f"Name every folder of {what} that they were made from, or make them anew from these.",
            )


@dataclass(frozen=True)
class PairData:
    """All P pairs: keys, phases, memory-mapped latents `[P, 2, L, C]` (winner, loser) and conditions `[P, ...]`."""

    clip_id: list[str]
    winner: np.ndarray
    loser: np.ndarray
    phase: np.ndarray
    latents: np.ndarray
    conditions: dict[str, np.ndarray]

    def batch(self, pair: np.ndarray, visit: np.ndarray | Sequence[str], *, seed: int) -> PairBatch:
        """The batch of these pairs; time (uniform in [0, 1)) and noise depend on (seed, pair, visit) alone."""
        latents = torch.from_numpy(np.ascontiguousarray(self.latents[pair].swapaxes(0, 1))).float()
        conditions = {name: torch.from_numpy(values[pair]).float() for name, values in self.conditions.items()}
        times, noises = [], []
        for row, number in zip(pair.tolist(), visit, strict=True):
            key = (self.clip_id[row], int(self.winner[row]), int(self.loser[row]), str(number))
            generator = row_generator(seed, "align", "visit", *key)
            times.append(uniform((), generator))
            noises.append(normal(latents.shape[2:], generator))
        return PairBatch(latents.flatten(0, 1), Conditions(conditions), torch.stack(times), torch.stack(noises))


def gather_pairs(inputs: AlignmentInputs, *, folder: Path, progress: Progress = silent) -> PairData:
    """The pairs with their latents and conditions, mapped from a cache in `folder` that one scan of the shards fills.

    A cache of the same data by the same code is used as it is. Raises UserError when a pair's candidate or clip is in
    none of the data sets, or in two.
    """
    table = inputs.pairs.table(["clip_id", "winner", "loser", "phase"])
    if pc.count_distinct(table["clip_id"]).as_py() != table.num_rows:
        raise UserError("A clip has more than one pair.", where=inputs.pairs.folder, remedy="Mine the pairs again.")
    winner, loser = table["winner"].to_numpy(), table["loser"].to_numpy()
    names = list(inputs.conditions[0].tensor_shapes())
    cache = folder / f"{_CACHE}{fingerprint(inputs.fingerprints, code_of(gather_pairs).digest)}"
    if not cache.exists():
        with new_folder(cache) as partial:
            _gather(table["clip_id"], inputs.candidates, ["latent"], [winner, loser], partial, progress)
            _gather(table["clip_id"], inputs.conditions, names, [None], partial, progress)

    def gathered(kind: str, name: str) -> np.ndarray:
        return np.load(cache / f"{kind}-{name}.npy", mmap_mode="r")

    return PairData(
        clip_id=table["clip_id"].to_pylist(),
        winner=winner,
        loser=loser,
        phase=np.asarray(table["phase"].to_pylist()),
        latents=gathered("candidates", "latent"),
        conditions={name: gathered("conditions", name)[:, 0] for name in names},
    )


def remove_caches(folder: Path) -> None:
    """Deletes the caches of `gather_pairs` in `folder`."""
    for cache in folder.glob(f"{_CACHE}*"):
        shutil.rmtree(cache)


def _gather(
    clip_id: pa.ChunkedArray,
    sources: Sequence[Dataset],
    columns: list[str],
    sides: Sequence[np.ndarray | None],
    folder: Path,
    progress: Progress,
) -> None:
    """Writes the rows of the clips `clip_id` as files `<kind>-<column>.npy`, `[P, sides, ...]`.

    A side is the sample index of each pair's row, or None where a clip has one row. Raises UserError unless each row
    exists exactly once.
    """
    kind = sources[0].manifest.schema_name
    with open_input(join(sources[0].folder, sources[0].shards[0].name)) as file:
        schema = pq.read_schema(file)
    types = {name: tensor_type(schema.field(name)) for name in columns}
    size = (len(clip_id), len(sides))
    rows = {
        name: np.lib.format.open_memmap(
            folder / f"{kind}-{name}.npy", mode="w+", dtype=type_.dtype, shape=(*size, *type_.shape)
        )
        for name, type_ in types.items()
    }
    counts = np.zeros(size, dtype=np.int64)
    keys = ["clip_id", *([] if sides == [None] else ["sample"])]
    shards = (shard for source in sources for shard in source.tables([*keys, *columns]))
    for done, shard in enumerate(shards, start=1):
        pair = pc.index_in(shard["clip_id"], value_set=clip_id.combine_chunks())
        row, pair = np.flatnonzero(pair.is_valid().to_numpy(zero_copy_only=False)), pair.drop_null().to_numpy()
        tensors = {name: tensor_column(shard, name) for name in columns}
        for side, sample in enumerate(sides):
            own = slice(None) if sample is None else shard["sample"].to_numpy()[row] == sample[pair]
            for name in columns:
                rows[name][pair[own], side] = tensors[name][row[own]]
            np.add.at(counts, (pair[own], side), 1)
        progress(f"Gathering {kind}", done, sum(len(source.shards) for source in sources))
    for memory_map in rows.values():
        memory_map.flush()
    where = ", ".join(source.folder for source in sources)
    for wrong, problem, remedy in (
        ((counts == 0).any(axis=1), f"not in the {kind}", f"Name every {kind} folder that the pairs were mined from."),
        ((counts > 1).any(axis=1), f"more than once in the {kind}", "Name each folder once."),
    ):
        if wrong.any():
            clip = clip_id[int(np.argmax(wrong))].as_py()
            raise UserError(
                f"{int(wrong.sum())} pairs are {problem}, such as that of clip {clip!r}.", where=where, remedy=remedy
            )
