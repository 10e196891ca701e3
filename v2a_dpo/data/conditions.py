"""The preparation engine: videos in, the raw conditions of a generator out, with decoding in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow.parquet as pq
import torch

from v2a_dpo.artifacts.location import file_sizes, join, open_input
from v2a_dpo.artifacts.schema import TableSchema, TensorType, conditions_schema
from v2a_dpo.artifacts.shard_file import StoredShard, stored_shard
from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent, shard_name
from v2a_dpo.data.captions import CaptionedClip
from v2a_dpo.media.clip_reading import ClipMedia, ClipRequest, read_clip
from v2a_dpo.media.errors import MediaError
from v2a_dpo.memory import memory_shortage_stops
from v2a_dpo.models.base import VideoToAudioModel
from v2a_dpo.worker_pool import WorkerDied, WorkerPool


class ConditionExtractor:
    """Reads clips of `duration_s` seconds in `workers` processes and runs a generator's frozen encoders over them.

    With `precision` bfloat16 the encoders run under autocast on their float32 weights.
    """

    def __init__(
        self, model: VideoToAudioModel, *, duration_s: float, workers: int, clips_per_batch: int, precision: str
    ) -> None:
        self._model = model
        self._is_bfloat16 = precision == "bfloat16"
        self._duration_s = duration_s
        self._clips_per_batch = clips_per_batch
        self._threads = 1 if workers else 0
        self._device = next(model.network.parameters()).device
        self._pool: WorkerPool[ClipRequest, ClipMedia | MediaError] = WorkerPool(read_clip, workers=workers)

    @property
    def schema(self) -> TableSchema:
        """The table of conditions: the shapes of the model's empty conditions, in single precision."""
        empty = self._model.empty_conditions(self._duration_s).tensors
        return conditions_schema({name: TensorType("float32", tuple(row.shape[1:])) for name, row in empty.items()})

    @memory_shortage_stops("preparing clips", remedy="lower prepare.clips_per_batch or prepare.workers")
    def extract(self, clips: Sequence[CaptionedClip], *, progress: Callable[[int], None]) -> ShardContent:
        """The conditions of `clips`, a row each in their order; those that cannot be used are quarantined.

        `progress` is called with the number of clips of each finished batch. Raises UserError when memory runs out or a
        remote video cannot be reached: neither is caused by a clip.
        """
        rows: list[dict[str, Any]] = []
        quarantined: list[QuarantinedRow] = []
        results = zip(clips, self._pool.map(map(self._request, clips)), strict=True)
        while batch := list(islice(results, self._clips_per_batch)):
            read = [(clip, media) for clip, media in batch if isinstance(media, ClipMedia)]
            quarantined += [
                QuarantinedRow.of(clip.clip_id, media)
                for clip, media in batch
                if isinstance(media, MediaError | WorkerDied)
            ]
            for clip_id, row in self._encode(read):
                if all(bool(torch.isfinite(tensor).all()) for tensor in row.values()):
                    rows.append({"clip_id": clip_id} | {name: tensor.numpy().tobytes() for name, tensor in row.items()})
                else:
                    quarantined.append(
                        QuarantinedRow(clip_id, "NonFiniteConditions", "an encoder's output is not finite")
                    )
            progress(len(batch))
        return ShardContent(rows, quarantined)

    def close(self) -> None:
        """Ends the worker processes."""
        self._pool.close()

    def _request(self, clip: CaptionedClip) -> ClipRequest:
        return ClipRequest(
            video=clip.video,
            start_s=clip.start_s,
            duration_s=self._duration_s,
            streams=self._model.frame_streams,
            threads=self._threads,
        )

    def _encode(self, read: Sequence[tuple[CaptionedClip, ClipMedia]]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """Clip id and condition tensors of each clip."""
        if not read:
            return
        frames = {
            stream.name: torch.stack([torch.from_numpy(media.frames[stream.name]) for _, media in read])
            for stream in self._model.frame_streams
        }
        on_device = {name: tensor.to(self._device) for name, tensor in frames.items()}
        autocast = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._is_bfloat16)
        with torch.inference_mode(), autocast:
            extracted = self._model.extract_conditions(on_device, [clip.prompt for clip, _ in read])
        conditions = extracted.to("cpu", torch.float32)
        for index, (clip, _) in enumerate(read):
            yield clip.clip_id, {name: tensor[index].contiguous() for name, tensor in conditions.tensors.items()}


def stored_conditions(folder: str, indices: Iterable[int]) -> dict[int, StoredShard]:
    """The finished shards of the conditions in `folder`, by their index."""
    sizes = file_sizes(folder)
    shards = {index: stored_shard(folder, shard_name(index), sizes[shard_name(index)]) for index in indices}
    return {index: shard for index, shard in shards.items() if shard is not None}


def clip_ids_in(folder: str, shard: StoredShard) -> set[str]:
    """The clips that have conditions in a finished shard."""
    with open_input(join(folder, shard.entry.name)) as file:
        return set(pq.read_table(file, columns=["clip_id"]).column("clip_id").to_pylist())
