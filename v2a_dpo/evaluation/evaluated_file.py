"""Evaluated clips in one safetensors file, so that a later model can be compared with this one clip by clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.metrics import EvaluatedClips

_VALUE = "value/"


@dataclass(frozen=True)
class EvaluatedFile:
    """One system's evaluated clips, and the PaSST embeddings `[N, D]` of the real audio of the same clips."""

    clips: EvaluatedClips
    real_embedding: NDArray[np.floating]

    def select(self, clip_ids: Sequence[str]) -> EvaluatedFile:
        """The rows of `clip_ids`, in this order."""
        row_of = {clip_id: row for row, clip_id in enumerate(self.clips.clip_ids)}
        rows = np.array([row_of[clip_id] for clip_id in clip_ids], dtype=np.int64)
        clips = EvaluatedClips(
            list(clip_ids),
            {key: values[rows] for key, values in self.clips.values.items()},
            self.clips.passt_embedding[rows],
            self.clips.panns_logits[rows],
        )
        return EvaluatedFile(clips, self.real_embedding[rows])

    def save(self, path: Path) -> None:
        """Writes everything to `path`."""
        tensors = {f"{_VALUE}{key}": np.asarray(values) for key, values in self.clips.values.items()}
        tensors |= {
            "passt_embedding": self.clips.passt_embedding,
            "panns_logits": self.clips.panns_logits,
            "real_passt_embedding": self.real_embedding,
        }
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        save_file(contiguous, path, metadata={"clip_ids": json.dumps(self.clips.clip_ids, allow_nan=False)})

    @staticmethod
    def load(path: Path) -> EvaluatedFile:
        """What `save` wrote to `path`; raises UserError for anything else."""
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                clip_ids = json.loads(file.metadata()["clip_ids"])
            return EvaluatedFile(
                EvaluatedClips(
                    clip_ids,
                    {name.removeprefix(_VALUE): tensors[name] for name in tensors if name.startswith(_VALUE)},
                    tensors["passt_embedding"],
                    tensors["panns_logits"],
                ),
                tensors["real_passt_embedding"],
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"These are no evaluated clips: {error!r}.", where=str(path), remedy="Register the model again."
            ) from error
