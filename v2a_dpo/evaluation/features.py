"""What the two audio taggers make of real and generated audio: embeddings for FD, logits for KL and the Inception Score.

Audio is prepared as for the published numbers: mean over channels, the mean of the whole excerpt subtracted, at most
`duration_s` seconds, no padding. Letters in tensor names: B clips, S samples, D dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from v2a_dpo.artifacts.schema import TableSchema, TensorType, tensor_field
from v2a_dpo.artifacts.shards import QuarantinedRow, ShardContent
from v2a_dpo.scoring.base import AudioTagger

FEATURES = "features"
TAGGERS = ("panns", "passt")
#: Tensor columns of a features folder.
TENSORS = tuple(f"{tagger}_{output}" for tagger in TAGGERS for output in ("embedding", "logits"))
_TAGGED_AT_ONCE = 16

#: `(clip_id, audio_S, sample_rate)` -> the rater's quality of this audio, or None where nobody rates.
Quality = Callable[[str, Tensor, int], float]


@dataclass(frozen=True)
class ClipAudio:
    """One clip's audio `[S]` or `[channels, S]` in [-1, 1] as it was read, or the error that prevented it."""

    clip_id: str
    sample_rate: int
    audio: Tensor | Exception


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
        silence = ClipAudio("silence", sample_rate, torch.zeros(int(sample_rate * self._duration_s)))
        tensors = self._tag(silence.sample_rate, torch.stack([_prepared(silence, self._duration_s)]))
        fields = [tensor_field(name, TensorType("float32", tuple(tensors[name].shape[1:]))) for name in TENSORS]
        clip_id, quality = pa.field("clip_id", pa.string(), nullable=False), pa.field("quality", pa.float32())
        return TableSchema(FEATURES, 1, pa.schema([clip_id, *fields, quality]))

    def extract(self, clips: Iterable[ClipAudio]) -> ShardContent:
        """The rows of `clips`; those that cannot be read, are not finite or defeat a tagger go to quarantine."""
        rows: list[dict[str, Any]] = []
        quarantined: list[QuarantinedRow] = []
        batch: list[tuple[ClipAudio, Tensor]] = []
        for clip in clips:
            try:
                audio_S = _prepared(clip, self._duration_s)
            except Exception as error:
                quarantined.append(QuarantinedRow.of(clip.clip_id, error))
                continue
            if batch and not _fit_together(batch[0], clip, audio_S):
                rows += self._rows(batch, quarantined)
                batch = []
            batch.append((clip, audio_S))
        if batch:
            rows += self._rows(batch, quarantined)
        return ShardContent(rows, quarantined)

    def _rows(
        self, batch: Sequence[tuple[ClipAudio, Tensor]], quarantined: list[QuarantinedRow]
    ) -> list[dict[str, Any]]:
        rows = []
        for start in range(0, len(batch), _TAGGED_AT_ONCE):
            part = batch[start : start + _TAGGED_AT_ONCE]
            tensors = self._tag(part[0][0].sample_rate, torch.stack([audio for _, audio in part]))
            for place, (clip, _) in enumerate(part):
                outputs = {name: tensors[name][place] for name in TENSORS}
                if not all(bool(torch.isfinite(output).all()) for output in outputs.values()):
                    quarantined.append(
                        QuarantinedRow(clip.clip_id, "NonFiniteFeatures", "a tagger's output is not finite")
                    )
                    continue
                row: dict[str, Any] = {name: output.numpy().tobytes() for name, output in outputs.items()}
                rows.append({"clip_id": clip.clip_id, **row, "quality": self._rate(clip)})
        return rows

    def _tag(self, sample_rate: int, audio_BS: Tensor) -> dict[str, Tensor]:
        tensors = {}
        with torch.inference_mode():
            for name in TAGGERS:
                embedding_BD, logits_BK = self._taggers[name].tag(audio_BS, sample_rate)
                tensors[f"{name}_embedding"] = embedding_BD.float().cpu().contiguous()
                tensors[f"{name}_logits"] = logits_BK.float().cpu().contiguous()
        return tensors

    def _rate(self, clip: ClipAudio) -> float | None:
        if self._quality is None or isinstance(clip.audio, Exception):
            return None
        return self._quality(clip.clip_id, clip.audio, clip.sample_rate)


def _prepared(clip: ClipAudio, duration_s: float) -> Tensor:
    if isinstance(clip.audio, Exception):
        raise clip.audio
    audio_S = clip.audio.float().mean(dim=0) if clip.audio.ndim == 2 else clip.audio.float()
    if audio_S.numel() == 0 or not bool(torch.isfinite(audio_S).all()):
        raise ValueError(f"the audio has {audio_S.numel()} samples, or some that are not finite")
    return (audio_S - audio_S.mean())[: int(clip.sample_rate * duration_s)]


def _fit_together(first: tuple[ClipAudio, Tensor], clip: ClipAudio, audio_S: Tensor) -> bool:
    return first[0].sample_rate == clip.sample_rate and first[1].shape == audio_S.shape
