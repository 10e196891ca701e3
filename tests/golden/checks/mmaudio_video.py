"""Golden checks of video reading: which frames are picked, and how they are resized."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import torch
from torch import Tensor

from tests.frame_picking import pick_frame_indices
from tests.golden.format import Case, Result, UnknownCaseError, compare, equal
from v2a_dpo.media.video import read_frames, resize
from v2a_dpo.models.mmaudio.sequence import CLIP_STREAM, SYNC_STREAM

#: Resizing rounds to 8 bits, so single pixels may differ by one level while the mean hardly moves.
ONE_LEVEL = 1 / 255 + 1e-6
MEAN_TOLERANCE = 2e-4
_STREAMS = {"clip": CLIP_STREAM, "sync": SYNC_STREAM}


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    cases = case.facts.get("cases")
    if isinstance(cases, list):
        yield from check_rule(case, cases)
    elif isinstance(cases, dict):
        yield from check_resizing(case, cases)
    else:
        yield from check_clips(case)


def check_rule(case: Case, cases: list[dict]) -> Iterator[Result]:
    """Picked frames of synthetic rates: frame i has the time i / fps, up to 8 s."""
    for facts in cases:
        times_s = [index / facts["fps"] for index in range(int(8 * facts["fps"]) + 2)]
        for key, golden in facts.items():
            if key == "fps":
                continue
            match = re.fullmatch(r"(clip|sync)_(first_(\d+)|count_8s)", key)
            if not match:
                raise UnknownCaseError(key)
            picked = pick_frame_indices(times_s, _STREAMS[match[1]].rate, 8.0)
            ours = picked[: int(match[3])] if match[3] else len(picked)
            yield equal(f"{case.stem}: {facts['fps']} fps, {key}", ours, golden)


def check_resizing(case: Case, cases: dict[str, dict]) -> Iterator[Result]:
    """Resized pictures at every sixth (clip) or fourth (sync) row and column."""
    for name in sorted({*cases, *(output.partition(".")[0] for output in case.outputs)}):
        picture = case.input(name).permute(2, 0, 1)
        for stream_name, stream in _STREAMS.items():
            ours = network_input(resize(picture, stream), stream_name)[None]
            strided = ours[..., 1::6, 2::6] if stream_name == "clip" else ours[..., 1::4, 2::4]
            golden, label = case.outputs[f"{name}.{stream_name}_strided"], f"{case.stem}: {name} {stream_name}"
            level = ONE_LEVEL if stream_name == "clip" else 2 * ONE_LEVEL
            yield compare(label, strided, golden, tolerance=level)
            mean = (strided - golden).abs().mean().item()
            yield Result(f"{label}, mean difference", mean, MEAN_TOLERANCE)
            key = f"{stream_name}_mean"
            if key in cases.get(name, {}):
                yield Result(f"{label}, mean", abs(ours.mean().item() - cases[name][key]), MEAN_TOLERANCE)


def network_input(frames: Tensor, stream_name: str) -> Tensor:
    """uint8 frames as the stream's network sees them: CLIP in [0, 1], Synchformer in [-1, 1]."""
    pixels = frames.float() / 255
    return pixels if stream_name == "clip" else (pixels - 0.5) / 0.5


def check_clips(case: Case) -> Iterator[Result]:
    """Real clips, where they lie beside the golden folders (in `../../data/clips`)."""
    folder = case.path.resolve().parents[2] / "data" / "clips"
    for name, facts in case.facts.items():
        if not (folder / name).exists():
            yield Result(f"{case.stem}: {name}", 0.0, 0.0, "not checked: the clip is not here")
            continue
        with av.open(str(folder / name)) as container:
            times_s = [frame.time for frame in container.decode(video=0)]
        yield equal(f"{case.stem}: {name}, frames", len(times_s), facts["decoded_video_frames"])
        for end_s, golden in facts["mmaudio"].items():
            yield from check_clip(f"{case.stem}: {name}, {end_s} s", folder / name, times_s, float(end_s), golden)


def check_clip(label: str, path: Path, times_s: list[float], end_s: float, golden: dict) -> Iterator[Result]:
    """One clip read for one duration, which upstream shortens to what the video holds."""
    held_s = end_s
    for name, stream in _STREAMS.items():
        picked = pick_frame_indices(times_s, stream.rate, end_s)
        yield equal(f"{label}, {name} picks", len(picked), golden[f"source_index_{name}_raw_count"])
        if f"source_index_{name}" in golden:
            yield equal(f"{label}, {name} indices", picked, golden[f"source_index_{name}"])
        if len(picked) < int(held_s * stream.rate):
            held_s = len(picked) / stream.rate
    yield equal(f"{label}, duration", held_s, golden["duration_sec_after"])
    # Upstream counts int(10.04 * 25) = 250 frames; that many are asked for here.
    duration_s = min(end_s, int(held_s * SYNC_STREAM.rate) / SYNC_STREAM.rate)
    frames = read_frames(str(path), tuple(_STREAMS.values()), duration_s=duration_s)
    for name, stream_frames in frames.items():
        yield equal(f"{label}, {name} shape", list(stream_frames.shape), golden[f"{name}_frames"])
        ours = network_input(stream_frames, name)
        if f"{name}_mean" in golden:
            yield Result(f"{label}, {name} mean", abs(ours.mean().item() - golden[f"{name}_mean"]), MEAN_TOLERANCE)
            yield Result(f"{label}, {name} std", abs(ours.std().item() - golden[f"{name}_std"]), MEAN_TOLERANCE)
        if f"{name}_frame_means" in golden:
            means = torch.tensor(golden[f"{name}_frame_means"])
            # The golden means are of evenly spaced frames; which ones shows in their number.
            yield compare(
                f"{label}, {name} frame means", frame_means(ours, len(means)), means, tolerance=MEAN_TOLERANCE
            )


def frame_means(frames: Tensor, count: int) -> Tensor:
    """The means of `count` evenly spaced frames."""
    return frames.mean(dim=(1, 2, 3))[:: len(frames) // count][:count]
