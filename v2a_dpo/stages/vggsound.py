"""Stage: VGGSound's list and clips into the caption tables of the paper's splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.location import join
from v2a_dpo.artifacts.text_table import write_csv
from v2a_dpo.config import Params
from v2a_dpo.data.vggsound.lists import read_clip_list, read_official_list
from v2a_dpo.data.vggsound.selection import select_clips
from v2a_dpo.data.vggsound.splits import arrange
from v2a_dpo.progress import Progress, silent


@dataclass(frozen=True)
class SplitCount:
    """The number of clips of a split, and the number in the parameters."""

    clips: int
    planned: int


@dataclass(frozen=True)
class VggsoundSummary:
    """The counts of a run; the files of the output folder hold everything else."""

    splits: dict[str, SplitCount]
    listed: int
    missing: int
    excluded: int
    bad_lines: int
    test_source: str
    #: Name of each archive of which only a part could be read -> its damage.
    damaged_archives: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{name}: {count.clips:,} of {count.planned:,} clips" for name, count in self.splits.items()]
        lines.append(f"The test split is {self.test_source}.")
        rest = f"{self.missing:,} of {self.listed:,} listed videos are missing; {self.excluded:,} clips excluded"
        damage = [
            f"{name} is damaged, and only its readable clips count: {why}"
            for name, why in self.damaged_archives.items()
        ]
        return "\n".join([*lines, rest + (f"; {self.bad_lines} bad lines" if self.bad_lines else ""), *damage])


def vggsound(
    params: Params,
    *,
    listing: str,
    videos: str,
    output: str,
    test_list: str | None = None,
    trained_on: Sequence[str] = (),
    held_out: Sequence[str] = (),
    unpack: str | None = None,
    progress: Progress = silent,
) -> VggsoundSummary:
    """Writes one caption table per split to `output`, and what is missing, excluded or wrong; returns the numbers.

    `listing` is the official CSV; `videos` holds clips, in any folders below, or tar archives, whose selected clips are
    written to `unpack`. The tables name videos relative to `videos`, or to `unpack`: `prepare` needs that folder. The
    unreadable clips of a damaged archive are missing. Ids of `trained_on` lists are kept out of the test split, ids of
    `held_out` lists out of the two others. The same lists, videos and parameters give the same files. Raises UserError
    when a split would be empty.
    """
    settings = params.vggsound
    official = read_official_list(listing)
    candidates = arrange(
        official.clips,
        seed=settings.seed,
        annotation_share=settings.annotation_share,
        test_list=None if test_list is None else read_clip_list(test_list),
        trained_on={PurePosixPath(uri).name: read_clip_list(uri).keys() for uri in trained_on},
        held_out={PurePosixPath(uri).name: read_clip_list(uri).keys() for uri in held_out},
    )
    counts = {
        "annotation": settings.annotation_clips,
        "preference": settings.preference_clips,
        "test": len(candidates.test),
    }
    selection = select_clips(candidates, counts, videos=videos, unpack=unpack, progress=progress)
    listed = {clip.clip_id: clip for clip in [*official.clips, *candidates.test]}
    missing = [clip for clip_id, clip in listed.items() if clip_id not in selection.files]
    lists = [listing, *([test_list] if test_list else []), *trained_on, *held_out]
    summary = VggsoundSummary(
        {name: SplitCount(len(clips), counts[name]) for name, clips in selection.splits.items()},
        listed=len(listed),
        missing=len(missing),
        excluded=len(candidates.excluded),
        bad_lines=len(official.bad_lines),
        test_source=f"the list {PurePosixPath(test_list).name}"
        if test_list
        else "VGGSound's official one; the paper takes MMAudio's list, which --test-list gives",
        damaged_archives={name: index.damage for name, index in selection.damaged.items()},
    )
    for name, clips in selection.splits.items():
        rows = ([clip.clip_id, selection.files[clip.clip_id], clip.label, clip.label] for clip in clips)
        write_csv(join(output, f"{name}.csv"), ["clip_id", "video", "prompt", "label"], rows)
    write_csv(
        join(output, "missing.csv"),
        ["clip_id", "label", "official_split"],
        ([clip.clip_id, clip.label, clip.official_split] for clip in missing),
    )
    write_csv(
        join(output, "excluded.csv"),
        ["clip_id", "label", "reason"],
        ([item.clip_id, item.label, item.reason] for item in candidates.excluded),
    )
    write_csv(
        join(output, "bad-lines.csv"),
        ["line", "text", "reason"],
        ([str(bad.line), bad.text, bad.reason] for bad in official.bad_lines),
    )
    write_csv(
        join(output, "damaged-archives.csv"),
        ["archive", "reason", "readable_clips"],
        ([name, index.damage, str(len(index.clips))] for name, index in selection.damaged.items()),
    )
    record = {
        **asdict(summary),
        "parameters": settings.model_dump(mode="json"),
        "lists": {PurePosixPath(uri).name: file_checksum(uri) for uri in lists},
    }
    write_json(join(output, "splits.json"), record)
    return summary
