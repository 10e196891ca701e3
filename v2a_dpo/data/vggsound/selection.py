"""The clips of each split whose videos exist: loose files, or clips unpacked from tar archives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from v2a_dpo.artifacts.layout import SPLITS
from v2a_dpo.artifacts.location import exists, list_names
from v2a_dpo.data.vggsound.archives import ArchiveIndex, archive_sizes, read_archive
from v2a_dpo.data.vggsound.files import clip_id_of, videos_in
from v2a_dpo.data.vggsound.lists import ListedClip
from v2a_dpo.data.vggsound.splits import Candidates, take
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress

#: The first pass over archives unpacks this many times the clips of a split, so that missing ones need no second pass.
_RESERVE = 1.05


@dataclass(frozen=True)
class Selection:
    """The selected clips of each split, and the video files by clip id."""

    splits: dict[str, list[ListedClip]]
    files: Mapping[str, str]
    #: Name -> index of each archive of which only a part could be read.
    damaged: Mapping[str, ArchiveIndex] = field(default_factory=dict)


def select_clips(
    candidates: Candidates, counts: Mapping[str, int], *, videos: str, unpack: str | None, progress: Progress
) -> Selection:
    """The first `counts` candidates of each split whose video is in the folder `videos`.

    Clips of tar archives are written to `unpack`. Raises UserError when a split would be empty, and for archives
    without `unpack`.
    """
    archives = archive_sizes(videos)
    if not archives:
        files = videos_in(videos)
        selection = Selection(_available(candidates, counts, files), files)
    elif unpack is None:
        raise UserError(
            f"This folder holds {len(archives)} tar archives.",
            where=videos,
            remedy="Name with --unpack the folder for the selected clips.",
        )
    else:
        selection = _unpacked(candidates, counts, archives, unpack, progress)
    if empty := [name for name, clips in selection.splits.items() if not clips]:
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
    return selection


def _available(
    candidates: Candidates, counts: Mapping[str, int], files: Mapping[str, str]
) -> dict[str, list[ListedClip]]:
    return {name: take(getattr(candidates, name), counts[name], files.__contains__) for name in SPLITS}


def _unpacked(
    candidates: Candidates, counts: Mapping[str, int], archives: Mapping[str, int], output: str, progress: Progress
) -> Selection:
    """The selection from archives, unpacked into `output`.

    The first pass unpacks the clips that would be selected if none were missing, and a reserve; later passes open only
    archives that hold more replacements. Of a clip in several archives the first one counts.
    """
    present = {name for name in list_names(output) if clip_id_of(name)}
    needed = {clip.clip_id for name in SPLITS for clip in getattr(candidates, name)[: int(counts[name] * _RESERVE)]}
    is_first = True
    while True:
        indices: dict[str, ArchiveIndex] = {}
        files: dict[str, str] = {}
        for number, (archive, num_bytes) in enumerate(archives.items(), start=1):
            index = read_archive(
                archive,
                num_bytes=num_bytes,
                output=output,
                wanted=needed,
                present=present,
                trust_damaged=not is_first,
                progress=progress,
            )
            indices[archive] = index
            files = index.clips | files
            progress("Archives", number, len(archives))
        splits = _available(candidates, counts, files)
        needed = {clip.clip_id for clips in splits.values() for clip in clips}
        if all(files[clip_id] in present for clip_id in needed):
            damaged = {PurePosixPath(archive).name: index for archive, index in indices.items() if index.damage}
            return Selection(splits, files, damaged)
        is_first = False
