import subprocess
import sys

import av
import numpy as np
import pytest

from v2a_dpo.tiny.media import render_arrays, write_clip_mp4
from v2a_dpo.tiny.rater import band_levels_db, detect_onsets, onset_f1
from v2a_dpo.tiny.render import render_frames
from v2a_dpo.tiny.world import make_clip_events, make_split


def decode(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        # AAC's priming samples carry negative times and are not part of the sound.
        parts = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    audio = np.concatenate([samples for time_s, samples in parts if time_s >= 0])
    return np.stack(frames), audio


def test_an_mp4_keeps_its_event_times_in_sound_and_picture(tmp_path):
    for index in range(4):
        events = make_clip_events(0, "test", index)
        path = tmp_path / f"{index}.mp4"
        write_clip_mp4(path, events)
        frames, audio = decode(path)
        assert frames.shape == (50, 96, 96, 3)
        onsets_s = detect_onsets(band_levels_db(audio)) * 128 / 16_000
        assert onset_f1(onsets_s, np.asarray(events.event_times_s)) == 1.0
        direct = render_frames(events).astype(float)
        distances = [np.abs(np.roll(direct, shift, axis=0) - frames)[5:-5].mean() for shift in (-2, -1, 0, 1, 2)]
        assert np.argmin(distances) == 2


_DIGESTS = """
import hashlib, sys
from pathlib import Path
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.world import make_split

path = Path(sys.argv[1])
for events in make_split(3, "annotation", 40):
    write_clip_mp4(path, events)
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_every_process_writes_the_same_bytes(tmp_path):
    command = [sys.executable, "-c", _DIGESTS]
    processes = [
        subprocess.Popen([*command, str(tmp_path / f"{number}.mp4")], stdout=subprocess.PIPE) for number in range(3)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert outputs[0].count(b"\n") == 40
    assert len(set(outputs)) == 1


def test_nothing_partial_stays_beside_a_written_mp4(tmp_path):
    write_clip_mp4(tmp_path / "clip.mp4", make_clip_events(0, "test", 0))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_decoded_pictures_shrink_to_what_the_networks_trained_on(tmp_path):
    events = make_clip_events(0, "test", 3)
    write_clip_mp4(tmp_path / "clip.mp4", events)
    frames, _ = decode(tmp_path / "clip.mp4")
    shrunk = frames.reshape(50, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    direct = render_arrays([events]).frames[0].permute(0, 2, 3, 1).numpy()
    assert np.abs(shrunk - direct).mean() < 4.0


def test_clips_in_memory_have_the_shapes_the_networks_take():
    clips = render_arrays(make_split(0, "test", 3))
    assert clips.frames.shape == (3, 50, 3, 32, 32)
    assert clips.audio.shape == (3, 32_000)
