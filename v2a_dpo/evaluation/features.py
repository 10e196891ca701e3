"""What the two audio taggers make of real and generated audio: embeddings for FD, logits for KL and the Inception
Score.

Audio is prepared as for the published numbers: mean over channels, the mean of the whole excerpt subtracted, at most
`duration_s` seconds, no padding; its levels are measured before the subtraction. Letters in tensor names: B clips, S
samples, D dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from v2a_dpo.artifacts.schema import TableSchema, TensorType, tensor_field
from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent
from v2a_dpo.evaluation.levels import MEASURED, sound_levels
from v2a_dpo.evaluation.systems import FEATURES, TAGGERS, TENSORS
from v2a_dpo.media.errors import AudioUnreadable, MediaError
from v2a_dpo.scoring.base import AudioTagger

_TAGGED_AT_ONCE = 16

#: `(clip_id, audio_S, sample_rate)` -> the rater's quality of this audio.
Quality = Callable[[str, Tensor, int], float]


@dataclass(frozen=True)
class ClipAudio:
    """One clip's audio `[S]` or `[channels, S]` in [-1, 1] as it was read, or what is wrong with the clip."""

    clip_id: str
    sample_rate: int
    audio: Tensor | MediaError


@dataclass(frozen=True)
class _Excerpt:
    """The taggers' input of one clip `[S]`, how loud it is, and the rater's quality of its sound."""

    clip_id: str
    sample_rate: int
    audio: Tensor
    levels: Mapping[str, float | None]
    quality: float | None

    def fits(self, other: _Excerpt) -> bool:
        """Whether both fit into one batch."""
        return self.sample_rate == other.sample_rate and self.audio.shape == other.audio.shape


class FeatureExtractor:
    """Runs both taggers, and the rater where there is one, over clips' audio."""

    def __init__(
        self, taggers: Mapping[str, AudioTagger], *, duration_s: float, quality: Quality | None = None
    ) -> None:
        self._taggers = taggers
        self._duration_s = duration_s
        self._quality = quality

    def schema(self, sample_rate: int) -> TableSchema:
        """The features' table; the taggers' dimensions are found by tagging silence."""
        silence = torch.zeros(1, int(sample_rate * self._duration_s))
        tensors = self._tag(sample_rate, silence)
        fields = [tensor_field(name, TensorType("float32", tuple(tensors[name].shape[1:]))) for name in TENSORS]
        numbers = [pa.field(name, pa.float32()) for name in ("quality", *MEASURED)]
        return TableSchema(
            FEATURES, 2, pa.schema([pa.field("clip_id", pa.string(), nullable=False), *fields, *numbers])
        )

    def extract(self, clips: Iterable[ClipAudio]) -> ShardContent:
        """The rows of `clips`; those that cannot be read, are not finite or make a tagger's output so go to quarantine.

        The sounds of no more than 16 clips are held at once, however many there are.
        """
        rows: list[dict[str, Any]] = []
        quarantined: list[QuarantinedRow] = []
        batch: list[_Excerpt] = []
        for clip in clips:
            try:
                excerpt = self._excerpt(clip)
            except MediaError as error:
                quarantined.append(QuarantinedRow.of(clip.clip_id, error))
                continue
            if batch and (len(batch) == _TAGGED_AT_ONCE or not batch[0].fits(excerpt)):
                rows += self._rows(batch, quarantined)
                batch = []
            batch.append(excerpt)
        if batch:
            rows += self._rows(batch, quarantined)
        return ShardContent(rows, quarantined)

    def _excerpt(self, clip: ClipAudio) -> _Excerpt:
        """Raises MediaError when the clip has no usable sound."""
        if isinstance(clip.audio, MediaError):
            raise clip.audio
        audio_S = clip.audio.float().mean(dim=0) if clip.audio.ndim == 2 else clip.audio.float()
        if audio_S.numel() == 0 or not bool(torch.isfinite(audio_S).all()):
            raise AudioUnreadable(
                f"The sound has {audio_S.numel()} samples, or some that are not finite.",
                where=clip.clip_id,
                remedy="Make it again.",
            )
        length = int(clip.sample_rate * self._duration_s)
        rate = self._quality
        return _Excerpt(
            clip.clip_id,
            clip.sample_rate,
            (audio_S - audio_S.mean())[:length],
            sound_levels(audio_S[:length], clip.sample_rate),
            None if rate is None else rate(clip.clip_id, clip.audio, clip.sample_rate),
        )

    def _rows(self, batch: Sequence[_Excerpt], quarantined: list[QuarantinedRow]) -> Iterator[dict[str, Any]]:
        tensors = self._tag(batch[0].sample_rate, torch.stack([excerpt.audio for excerpt in batch]))
        for place, excerpt in enumerate(batch):
            outputs = {name: tensors[name][place] for name in TENSORS}
            if not all(bool(torch.isfinite(output).all()) for output in outputs.values()):
                quarantined.append(
                    QuarantinedRow(excerpt.clip_id, "NonFiniteFeatures", "a tagger's output is not finite")
                )
                continue
            row: dict[str, Any] = {name: output.numpy().tobytes() for name, output in outputs.items()}
            yield {"clip_id": excerpt.clip_id, **row, "quality": excerpt.quality, **excerpt.levels}

    def _tag(self, sample_rate: int, audio_BS: Tensor) -> dict[str, Tensor]:
        tensors = {}
        with torch.inference_mode():
            for name in TAGGERS:
                embedding_BD, logits_BK = self._taggers[name].tag(audio_BS, sample_rate)
                tensors[f"{name}_embedding"] = embedding_BD.float().cpu().contiguous()
                tensors[f"{name}_logits"] = logits_BK.float().cpu().contiguous()
        return tensors
