"""The pairs' latents and conditions, gathered once from the shard folders and then memory-mapped.

A training step touches only the rows it needs: no Parquet, no FLAC, no codec in the loop.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from v2a_dpo.alignment.batch import PairBatch
from v2a_dpo.alignment.inputs import AlignmentInputs
from v2a_dpo.artifacts.code import code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import fingerprint
from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.location import join, open_input
from v2a_dpo.artifacts.schema import tensor_column, tensor_type
from v2a_dpo.errors import UserError
from v2a_dpo.models.base import Conditions
from v2a_dpo.progress import Progress, silent
from v2a_dpo.randomness import normal, row_generator, uniform

_LATENTS = "latents"
_CACHE = "pairs-"


@dataclass(frozen=True)
class PairData:
    """All pairs: their keys, phases, and memory-mapped latents `[P, 2, L, C]` (winner, loser) and conditions `[P,
    ...]`."""

    clip_id: list[str]
    winner: np.ndarray
    loser: np.ndarray
    phase: np.ndarray
    latents: np.ndarray
    conditions: dict[str, np.ndarray]

    def batch(self, pair: np.ndarray, visit: np.ndarray | Sequence[str], *, seed: int) -> PairBatch:
        """The batch of these pairs; time (uniform in [0, 1)) and noise belong to (seed, pair, visit), whatever the
        batch."""
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
    data = fingerprint(inputs.fingerprints, code_of(gather_pairs).digest)
    names = list(inputs.conditions[0].tensor_shapes())
    cache = folder / f"{_CACHE}{data}"
    if not cache.exists():
        with new_folder(cache) as partial:
            _gather_latents(table, inputs.candidates, partial, progress)
            _gather_conditions(table, inputs.conditions, names, partial, progress)
    return PairData(
        clip_id=table["clip_id"].to_pylist(),
        winner=table["winner"].to_numpy(),
        loser=table["loser"].to_numpy(),
        phase=np.asarray(table["phase"].to_pylist()),
        latents=np.load(cache / f"{_LATENTS}.npy", mmap_mode="r"),
        conditions={name: np.load(cache / f"condition-{name}.npy", mmap_mode="r") for name in names},
    )


def remove_caches(folder: Path) -> None:
    """Deletes what `gather_pairs` keeps in `folder`."""
    for cache in folder.glob(f"{_CACHE}*"):
        shutil.rmtree(cache)


def _gather_latents(table: pa.Table, sources: Sequence[Dataset], folder: Path, progress: Progress) -> None:
    kind = tensor_type(_schema(sources[0]).field("latent"))
    rows = np.lib.format.open_memmap(
        folder / f"{_LATENTS}.npy", mode="w+", dtype=kind.dtype, shape=(table.num_rows, 2, *kind.shape)
    )
    found = np.zeros((table.num_rows, 2), dtype=np.int64)
    wanted = [table[side].to_numpy() for side in ("winner", "loser")]
    for shard in _shards(sources, ["clip_id", "sample", "latent"], "Gathering latents", progress):
        pair, here = _pair_of(shard, table)
        sample, latent = shard["sample"].to_numpy()[here], tensor_column(shard, "latent")
        for side in range(2):
            own = sample == wanted[side][pair]
            rows[pair[own], side] = latent[here[own]]
            np.add.at(found, (pair[own], side), 1)
    rows.flush()
    _check_found(found.min(axis=1), found.max(axis=1), table, "candidates", sources)


def _gather_conditions(
    table: pa.Table, sources: Sequence[Dataset], names: list[str], folder: Path, progress: Progress
) -> None:
    schema = _schema(sources[0])
    kinds = {name: tensor_type(schema.field(name)) for name in names}
    rows = {
        name: np.lib.format.open_memmap(
            folder / f"condition-{name}.npy", mode="w+", dtype=kind.dtype, shape=(table.num_rows, *kind.shape)
        )
        for name, kind in kinds.items()
    }
    found = np.zeros(table.num_rows, dtype=np.int64)
    for shard in _shards(sources, ["clip_id", *names], "Gathering conditions", progress):
        pair, here = _pair_of(shard, table)
        for name in names:
            rows[name][pair] = tensor_column(shard, name)[here]
        np.add.at(found, pair, 1)
    for memory_map in rows.values():
        memory_map.flush()
    _check_found(found, found, table, "conditions", sources)


def _schema(source: Dataset) -> pa.Schema:
    with open_input(join(source.folder, source.shards[0].name)) as file:
        return pq.read_schema(file)


def _shards(sources: Sequence[Dataset], columns: list[str], description: str, progress: Progress) -> Iterator[pa.Table]:
    total = sum(len(source.shards) for source in sources)
    tables = (table for source in sources for table in source.tables(columns))
    for done, table in enumerate(tables, start=1):
        yield table
        progress(description, done, total)


def _pair_of(shard: pa.Table, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """For the shard's rows that belong to a pair's clip: the pair's index, and the row's."""
    pair = pc.index_in(shard["clip_id"], value_set=table["clip_id"].combine_chunks())
    here = np.flatnonzero(pair.is_valid().to_numpy(zero_copy_only=False))
    return pair.drop_null().to_numpy(), here


def _check_found(least: np.ndarray, most: np.ndarray, table: pa.Table, what: str, sources: Sequence[Dataset]) -> None:
    """Raises UserError unless every pair's rows were found exactly once."""
    where = ", ".join(source.folder for source in sources)
    for wrong, problem, remedy in (
        (least == 0, f"not in the {what}", f"Name every {what} folder that the pairs were mined from."),
        (most > 1, f"more than once in the {what}", "Name each folder once."),
    ):
        if wrong.any():
            clip = table["clip_id"][int(np.argmax(wrong))].as_py()
            raise UserError(
                f"{int(wrong.sum())} pairs are {problem}, such as that of clip {clip!r}.", where=where, remedy=remedy
            )
