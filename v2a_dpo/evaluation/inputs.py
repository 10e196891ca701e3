"""What the evaluate stage reads and prepares: real audio from the videos, candidates, scores, the rater; features
cached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from v2a_dpo.artifacts.code import CodeRoot, code_of
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum, fingerprint, folder_fingerprint
from v2a_dpo.artifacts.manifest import ShardEntry
from v2a_dpo.artifacts.schema import CLIPS, SCORES
from v2a_dpo.artifacts.shards import ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.evaluation.features import ClipAudio, FeatureExtractor, Quality
from v2a_dpo.evaluation.sampling import Sampling, check_sources, only_value, sampling_of
from v2a_dpo.evaluation.systems import Pairing, SystemClips, load_features, load_scores, pair_clips
from v2a_dpo.media.audio import decode_flac, read_audio
from v2a_dpo.media.errors import MediaError
from v2a_dpo.progress import Progress
from v2a_dpo.randomness import row_seed
from v2a_dpo.scoring.catalog import KINDS, load_taggers

#: Yields the audio of one shard's clips.
Reader = Callable[[Dataset, ShardEntry], Iterator[ClipAudio]]
#: Folders of one system on the test clips: (candidates, scores).
System = tuple[str, str]
#: Real audio is read at the generator's rate, but never with less of its band than the taggers use.
_LEAST_REAL_RATE = {"official": 32_000, "tiny": 16_000}


@dataclass(frozen=True)
class Rater:
    """The rater of the audio: a name for tables, the quality of one clip's audio, and what decides on it.

    `fingerprint` identifies the data and `code` the function that the quality comes from; features are made again when
    one of them changes.
    """

    name: str
    quality: Quality
    fingerprint: str
    code: CodeRoot

    @staticmethod
    def of(name: str, make: Callable[[str], Quality], source: str | None) -> Rater | None:
        """The rater whose quality function `make` returns for the file `source`; None without that file."""
        return None if source is None else Rater(name, make(source), file_checksum(source), make)


class EvaluationInputs:
    """The clips, the taggers and the rater of one evaluation; features are made once and found again."""

    def __init__(self, params: Params, *, clips: str, scorers: str, rater: Rater | None, progress: Progress) -> None:
        self.params = params
        self.progress = progress
        self.rater = rater
        self.clips = Dataset.open(clips, CLIPS)
        self.clip_ids: list[str] = self.clips.table(["clip_id"]).column("clip_id").to_pylist()
        kind = params.score.scorers
        taggers = load_taggers(kind, scorers)  # refuses a kind that there is not
        self.scorers = scorers
        self.scorers_fingerprint = folder_fingerprint(scorers)
        self._made_by = [self.scorers_fingerprint, *([rater.fingerprint] if rater else [])]
        roots: list[CodeRoot] = [FeatureExtractor, _real, _generated, f"{KINDS[kind]}:load_taggers"]
        roots += [rater.code] if rater else []
        self._code = code_of(*roots)
        self._extractor = FeatureExtractor(
            taggers,
            duration_s=params.prepare.duration_s,
            quality=rater.quality if rater else None,
        )

    def real_audio(self, folder: str, *, like: System) -> SystemClips:
        """The features of the clips' own audio, kept in `folder`; a clip without sound is in its quarantine.

        It is read at the sample rate of the system `like`, or at the taggers' if that is higher.
        """
        candidates = Dataset.open(like[0], "candidates")
        sample_rate = max(_sample_rate(candidates), _LEAST_REAL_RATE[self.params.score.scorers])
        read = partial(_real, sample_rate=sample_rate)
        self._build(folder, self.clips, "Tagging real audio", sample_rate=sample_rate, read=read)
        return load_features(folder)

    def system(self, system: System, folder: str) -> SystemClips:
        """The features, kept in `folder`, and scores of a system's candidates (sample 0)."""
        candidates, scores = system
        source = Dataset.open(candidates, "candidates")
        self._build(folder, source, "Tagging generated audio", sample_rate=_sample_rate(source), read=_generated)
        return load_features(folder).join(load_scores(scores))

    def sampling(self, system: System) -> Sampling:
        """How a system's candidates were made; raises UserError when the scores are not theirs."""
        candidates = Dataset.open(system[0], "candidates")
        check_sources(
            Dataset.open(system[1], SCORES),
            {
                "candidates": (candidates.fingerprint, candidates.folder),
                "clips": (self.clips.fingerprint, self.clips.folder),
                "scorers": (self.scorers_fingerprint, self.scorers),
            },
        )
        return sampling_of(candidates)

    def pair(self, real: SystemClips, systems: Mapping[str, SystemClips], expected: list[str] | None = None) -> Pairing:
        """The clips that the real audio and all systems have, out of all clips or the `expected` ones."""
        sources = {"real audio": real, **systems}
        return pair_clips(
            self.clip_ids if expected is None else expected,
            {name: source.clip_ids for name, source in sources.items()},
            min_share=self.params.evaluate.min_paired,
        )

    def summary(self, pairing: Pairing, sampling: Mapping[str, Sampling]) -> dict[str, Any]:
        """The settings of the evaluation and how many clips it has, for `summary.json`.

        A system's seed is the root seed that its candidates' seeds come from, None when it is not that of the
        parameters.
        """
        seed, samplings = self.params.seed, {}
        for name, item in sampling.items():
            same = all(value == row_seed(seed, clip_id, 0) for clip_id, value in item.seeds.items())
            samplings[name] = {"seed": seed if same else None, **item.settings}
        return {
            "profile": self.params.profile,
            "generator": self.params.generator.model_dump(mode="json"),
            "scorers": self.params.score.scorers,
            "rater": self.rater.name if self.rater else None,
            "duration_s": self.params.prepare.duration_s,
            "expected_clips": pairing.expected,
            "clips": len(pairing.clip_ids),
            "missing": pairing.missing,
            "sampling": samplings,
            "scorers_fingerprint": self.scorers_fingerprint,
        }

    def test_set(self, clip_ids: list[str]) -> str:
        """A digest of which moments of which videos `clip_ids` are, wherever the files lie."""
        columns = ["clip_id", "probe", "start_s", "duration_s"]
        rows = {row["clip_id"]: [row[name] for name in columns] for row in self.clips.table(columns).to_pylist()}
        return fingerprint([rows[clip_id] for clip_id in clip_ids])

    def _build(self, folder: str, source: Dataset, description: str, *, sample_rate: int, read: Reader) -> None:
        build_dataset(
            folder,
            self._extractor.schema(sample_rate),
            parameters=[self.params.prepare.duration_s, self.params.score.scorers, sample_rate],
            inputs={"source": source.fingerprint, "scorers": self.scorers_fingerprint},
            tasks=[ShardTask(entry, [entry.sha256, *self._made_by]) for entry in source.shards],
            make=lambda entry: self._extractor.extract(read(source, entry)),
            code=self._code,
            keep=self.params.keep_artifacts,
            progress=partial(self.progress, description),
        )


def _sample_rate(candidates: Dataset) -> int:
    column = candidates.table(["sample_rate"]).column("sample_rate")
    return int(only_value(column, "sample_rate", candidates.folder))


def _real(source: Dataset, entry: ShardEntry, *, sample_rate: int) -> Iterator[ClipAudio]:
    for row in source.shard(entry, ["clip_id", "video", "start_s", "duration_s"]).to_pylist():
        audio: Tensor | MediaError
        try:
            audio = read_audio(
                row["video"], sample_rate=sample_rate, start_s=row["start_s"], duration_s=row["duration_s"]
            )
        except MediaError as error:
            audio = error
        yield ClipAudio(row["clip_id"], sample_rate, audio)


def _generated(source: Dataset, entry: ShardEntry) -> Iterator[ClipAudio]:
    table: pa.Table = source.shard(entry, ["clip_id", "sample", "audio"])
    table = table.filter(pc.equal(table.column("sample"), 0))
    for place in range(table.num_rows):
        (row,) = table.slice(place, 1).to_pylist()
        audio: Tensor | MediaError
        try:
            audio, sample_rate = decode_flac(row["audio"]["bytes"])
        except MediaError as error:
            audio, sample_rate = error, 0
        yield ClipAudio(row["clip_id"], sample_rate, audio)
