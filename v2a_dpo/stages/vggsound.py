"""Stage: VGGSound's list and clips into the caption tables of the paper's splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.layout import SPLITS
from v2a_dpo.artifacts.location import exists, join, list_names
from v2a_dpo.artifacts.text_table import write_csv
from v2a_dpo.config import Params
from v2a_dpo.data.vggsound.archives import ArchiveIndex, archive_sizes, read_archive
from v2a_dpo.data.vggsound.files import clip_id_of, videos_in
from v2a_dpo.data.vggsound.lists import ListedClip, read_clip_list, read_official_list
from v2a_dpo.data.vggsound.splits import Candidates, arrange, take
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent

#: How many more clips than wanted the first pass over archives takes out, so that missing ones need no second pass.
_RESERVE = 1.05


@dataclass(frozen=True)
class SplitCount:
    """How many clips a split has, and how many it should."""

    clips: int
    wanted: int


@dataclass(frozen=True)
class VggsoundSummary:
    """What was made, in a few numbers; everything else stands in the files of the output folder."""

    splits: dict[str, SplitCount]
    listed: int
    missing: int
    excluded: int
    bad_lines: int
    test_source: str
    #: Name of each archive of which only a part could be read -> what is wrong with it.
    damaged_archives: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{name}: {count.clips:,} of {count.wanted:,} clips" for name, count in self.splits.items()]
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
    """Writes a caption table a split to `output`, and what is missing, excluded or wrong; says what was made.

    `listing` is the official CSV; `videos` holds clips, in folders as wanted, or tar archives, whose chosen clips are
    written to `unpack`. The tables name videos relative to `videos`, or to `unpack`: that folder is what `prepare` is
    given. A damaged archive costs the clips in it that cannot be read. Ids of `trained_on` lists are kept out of the
    test split, ids of `held_out` lists out of the two others. The same lists, videos and parameters give the same
    files. Raises UserError when a split would be empty.
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
    archives = archive_sizes(videos)
    indices: dict[str, ArchiveIndex] = {}
    if not archives:
        files = videos_in(videos)
        chosen = _choose(candidates, counts, files)
    else:
        if unpack is None:
            raise UserError(
                f"This folder holds {len(archives)} tar archives.",
                where=videos,
                remedy="Say with --unpack where the chosen clips go.",
            )
        indices, chosen = _unpacked(candidates, counts, archives, unpack, progress)
        files = _available(indices)
    _check(chosen, videos)
    everything = [*official.clips, *candidates.test]
    missing = {clip.clip_id: clip for clip in everything if clip.clip_id not in files}
    damaged = {PurePosixPath(archive).name: index for archive, index in indices.items() if index.damage}
    lists = [listing, *([test_list] if test_list else []), *trained_on, *held_out]
    summary = VggsoundSummary(
        {name: SplitCount(len(chosen[name]), counts[name]) for name in SPLITS},
        listed=len({clip.clip_id for clip in everything}),
        missing=len(missing),
        excluded=len(candidates.excluded),
        bad_lines=len(official.bad_lines),
        test_source=f"the list {PurePosixPath(test_list).name}"
        if test_list
        else "VGGSound's official one; the paper takes MMAudio's list, which --test-list gives",
        damaged_archives={name: index.damage for name, index in damaged.items()},
    )
    for name, clips in chosen.items():
        rows = ([clip.clip_id, files[clip.clip_id], clip.label, clip.label] for clip in clips)
        write_csv(join(output, f"{name}.csv"), ["clip_id", "video", "prompt", "label"], rows)
    write_csv(
        join(output, "missing.csv"),
        ["clip_id", "label", "official_split"],
        ([clip.clip_id, clip.label, clip.official_split] for clip in missing.values()),
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
        ([name, index.damage, str(len(index.clips))] for name, index in damaged.items()),
    )
    record = {
        **asdict(summary),
        "parameters": settings.model_dump(mode="json"),
        "lists": {PurePosixPath(uri).name: file_checksum(uri) for uri in lists},
    }
    write_json(join(output, "splits.json"), record)
    return summary


def _choose(
    candidates: Candidates, counts: Mapping[str, int], available: Mapping[str, str]
) -> dict[str, list[ListedClip]]:
    """The clips of each split whose videos are there."""
    return {name: take(getattr(candidates, name), counts[name], available.__contains__) for name in SPLITS}


def _unpacked(
    candidates: Candidates, counts: Mapping[str, int], archives: Mapping[str, int], output: str, progress: Progress
) -> tuple[dict[str, ArchiveIndex], dict[str, list[ListedClip]]]:
    """What each archive holds, and the clips chosen, which lie in `output` then.

    The first pass takes out what would be chosen if nothing were missing, and a reserve; the next ones open only
    archives that hold more replacements.
    """
    present = {name for name in list_names(output) if clip_id_of(name)}
    wanted = {clip.clip_id for name in SPLITS for clip in getattr(candidates, name)[: int(counts[name] * _RESERVE)]}
    is_first = True
    while True:
        indices: dict[str, ArchiveIndex] = {}
        for number, (archive, num_bytes) in enumerate(archives.items(), start=1):
            indices[archive] = read_archive(
                archive,
                num_bytes=num_bytes,
                output=output,
                wanted=wanted,
                present=present,
                trust_damaged=not is_first,
                progress=progress,
            )
            progress("Archives", number, len(archives))
        available = _available(indices)
        chosen = _choose(candidates, counts, available)
        wanted = {clip.clip_id for clips in chosen.values() for clip in clips}
        if all(available[clip_id] in present for clip_id in wanted):
            return indices, chosen
        is_first = False


def _available(indices: Mapping[str, ArchiveIndex]) -> dict[str, str]:
    """Clip id -> file of all archives; the first one that has a clip counts."""
    available: dict[str, str] = {}
    for index in indices.values():
        available = index.clips | available
    return available


def _check(chosen: Mapping[str, Sequence[ListedClip]], videos: str) -> None:
    empty = [name for name, clips in chosen.items() if not clips]
    if empty:
        raise UserError(
            f"No video of the split {empty[0]} was found.",
            where=videos,
            remedy=(
                "Clips are files named <YouTube id>_<start second, six digits>.mp4, loose or in tar archives; "
                "check the folder."
                if exists(videos)
                else "Check the path."
            ),
        )
