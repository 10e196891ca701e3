from __future__ import annotations

from io import BytesIO

import av
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torch.overrides import TorchFunctionMode

from v2a_dpo.media.audio import decode_flac, encode_flac, exactly, read_audio, resample, write_wav
from v2a_dpo.media.errors import AudioMissing, AudioUnreadable, VideoUnreadable
from v2a_dpo.media.mp4 import mux
from v2a_dpo.media.video import FrameStream, probe, read_frames

RATE = 16_000
SMALL = FrameStream("small", 25.0, 32, 32, "stretch")


def _tone(frequency: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def _click(at_s: float, seconds: float = 2.0) -> torch.Tensor:
    audio = torch.zeros(round(seconds * RATE))
    start = round(at_s * RATE)
    audio[start : start + 80] = 0.8 * torch.sin(torch.arange(80) * 0.8)
    return audio


def _onset_s(audio: torch.Tensor, rate: int = RATE) -> float:
    return float((audio.abs() > 0.3).nonzero()[0]) / rate


def _frequency(audio: torch.Tensor, rate: int = RATE) -> float:
    return float(torch.fft.rfft(audio).abs().argmax()) * rate / audio.numel()


def test_sound_is_read_resampled_and_averaged_over_channels(tmp_path, write_video):
    stereo = np.stack([_tone(440, 2.0, 44_100), np.zeros(88_200, np.float32)])
    path = write_video(tmp_path / "stereo.mp4", audio=stereo, sample_rate=44_100, layout="stereo")
    audio = read_audio(str(path), sample_rate=RATE, duration_s=2.0)
    assert audio.shape == (2 * RATE,)
    assert audio.dtype == torch.float32
    assert _frequency(audio) == pytest.approx(440, abs=1)
    assert float(audio[RATE // 4 : -RATE // 4].abs().max()) == pytest.approx(0.25, abs=0.02)


def test_six_channels_of_real_footage_become_one(real_footage):
    audio = read_audio(str(real_footage / "bigbuckbunny.mp4"), sample_rate=RATE)
    assert audio.shape[0] / RATE == pytest.approx(5.3, abs=0.05)
    assert 0.01 < float(audio.abs().max()) < 1.0


def test_sound_keeps_its_time(tmp_path, write_video):
    path = write_video(tmp_path / "click.mp4", duration_s=4.0, audio=_click(2.5, 4.0)[None].numpy())
    assert _onset_s(read_audio(str(path), sample_rate=RATE)) == pytest.approx(2.5, abs=0.003)
    assert _onset_s(read_audio(str(path), sample_rate=RATE, start_s=1.75, duration_s=2.0)) == pytest.approx(
        0.75, abs=0.003
    )


def test_sound_that_ends_early_is_filled_with_silence(tmp_path, write_video):
    path = write_video(tmp_path / "early.mp4", duration_s=3.0, audio=_tone(440, 1.0)[None])
    audio = read_audio(str(path), sample_rate=RATE, duration_s=3.0)
    assert audio.shape == (3 * RATE,)
    assert float(audio[2 * RATE :].abs().max()) == 0.0
    with pytest.raises(AudioMissing, match="from second 2 on"):
        read_audio(str(path), sample_rate=RATE, start_s=2.0, duration_s=1.0)


def _remux_sound(source, target, change):
    """Copies the sound of `source` to `target`; `change(second)` says where a packet goes, None that it is left out."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.audio[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.pts is None:
                continue
            at_s = change(float(packet.pts * packet.time_base))
            if at_s is not None:
                packet.pts = packet.dts = round(at_s / packet.time_base)
                packet.stream = copy
                new.mux(packet)
    return target


@pytest.mark.parametrize("lost", [(1.0, 2.5), (1.0, 1.065)])
@pytest.mark.parametrize("name", ["gap.mkv", "gap.mp4"])
def test_missing_packets_leave_silence_and_later_sound_its_time(tmp_path, write_video, name, lost):
    sound = torch.from_numpy(_tone(440, 4.0)) * (torch.arange(4 * RATE) < 2 * RATE) * 0.4 + _click(3.0, 4.0)
    whole = write_video(tmp_path / "whole.mkv", duration_s=4.0, audio=sound[None].numpy())
    path = _remux_sound(whole, tmp_path / name, lambda at_s: None if lost[0] < at_s < lost[1] else at_s)
    audio = read_audio(str(path), sample_rate=RATE, duration_s=4.0)
    assert _onset_s(audio) == pytest.approx(3.0, abs=0.003)
    assert (audio[int(1.06 * RATE) : int(1.12 * RATE)] == 0).sum() >= 0.004 * RATE
    later = read_audio(str(path), sample_rate=RATE, start_s=0.7, duration_s=3.0)
    assert _onset_s(later) == pytest.approx(2.3, abs=0.003)


def test_sound_whose_timestamps_overlap_keeps_its_time(tmp_path, write_video):
    whole = write_video(tmp_path / "whole.mkv", duration_s=4.0, audio=_click(3.0, 4.0)[None].numpy())
    path = _remux_sound(whole, tmp_path / "fast.mkv", lambda at_s: 0.9 * at_s)
    assert _onset_s(read_audio(str(path), sample_rate=RATE)) == pytest.approx(2.7, abs=0.02)


def _mp2(path, layout, rate, frequency):
    """One second of a tone as a bare MPEG stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp2", rate=rate, layout=layout)
        samples = (_tone(frequency, 1.0, rate) * 32767).astype(np.int16)
        for start in range(0, rate, 1152):
            channels = np.repeat(samples[start : start + 1152], stream.channels)[None]
            frame = av.AudioFrame.from_ndarray(channels, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize(("layout", "rate"), [("stereo", 44_100), ("mono", 32_000)])
def test_sound_that_changes_its_channels_or_rate_in_the_middle_is_read(tmp_path, layout, rate):
    first, second = _mp2(tmp_path / "1.mp2", "mono", 44_100, 440), _mp2(tmp_path / "2.mp2", layout, rate, 880)
    (tmp_path / "both.mp2").write_bytes(first + second)
    audio = read_audio(str(tmp_path / "both.mp2"), sample_rate=RATE)
    assert _frequency(audio[RATE // 4 : RATE * 3 // 4]) == pytest.approx(440, abs=2)
    assert _frequency(audio[RATE * 5 // 4 : RATE * 7 // 4]) == pytest.approx(880, abs=2)


def test_more_channels_than_a_frame_has_planes_are_averaged(tmp_path):
    channels = np.stack([_tone(440, 1.0), *np.zeros((8, RATE), np.float32)], axis=1)
    soundfile.write(tmp_path / "nine.wav", channels, RATE)
    audio = read_audio(str(tmp_path / "nine.wav"), sample_rate=RATE)
    assert audio.numpy() == pytest.approx(channels.mean(axis=1), abs=1e-4)


def test_a_sample_rate_that_cannot_be_is_damage(tmp_path):
    soundfile.write(tmp_path / "mad.wav", _tone(440, 1.0), 2_000_000_000)
    with pytest.raises(AudioUnreadable, match=r"declares 2,000,000,000 samples per second.*mad\.wav"):
        read_audio(str(tmp_path / "mad.wav"), sample_rate=RATE)


def test_usual_rates_are_resampled_by_torchaudio_bit_by_bit():
    audio = torch.from_numpy(_tone(440, 0.1, 44_100))
    for rate, wanted in [(44_100, 16_000), (48_000, 44_100), (11_025, 48_000), (8_000, 44_100), (22_050, 16_000)]:
        assert torch.equal(resample(audio, rate, wanted), torchaudio.functional.resample(audio, rate, wanted))


@pytest.mark.parametrize(("rate", "wanted"), [(3001, 2000), (2000, 3001), (9001, 400)])
def test_odd_rates_are_resampled_by_the_same_filter(rate, wanted):
    audio = torch.randn(2, 3, 2000, generator=torch.Generator().manual_seed(0)).double()
    expected = torchaudio.functional.resample(audio, rate, wanted)
    assert torch.allclose(resample(audio, rate, wanted), expected, atol=1e-9)


class _LargestTensor(TorchFunctionMode):
    """Notes how much memory the largest tensor takes that is made meanwhile."""

    num_bytes = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.num_bytes = max(self.num_bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize(("rate", "wanted"), [(8009, 8000), (8000, 8009), (999_983, 8000)])
def test_odd_rates_are_resampled_in_bounded_memory(rate, wanted):
    audio = torch.from_numpy(_tone(440, 1.0, rate))
    with _LargestTensor() as seen:
        resampled = resample(audio, rate, wanted)
    assert seen.num_bytes <= 32 * 2**20
    inside = slice(wanted // 10, -wanted // 10)
    assert resampled.numpy()[inside] == pytest.approx(_tone(440, 1.0, wanted)[inside], abs=2e-3)


def test_a_video_without_sound_is_said_to_have_none(tmp_path, write_video):
    path = write_video(tmp_path / "mute.mp4")
    with pytest.raises(AudioMissing, match=r"no sound.*mute\.mp4"):
        read_audio(str(path), sample_rate=RATE)


def test_a_text_file_has_no_readable_sound(tmp_path):
    (tmp_path / "notes.wav").write_text("la la la\n" * 50)
    with pytest.raises(VideoUnreadable):
        read_audio(str(tmp_path / "notes.wav"), sample_rate=RATE)


def test_flac_keeps_16_bits_and_clips():
    audio = torch.tensor([0.0, 0.5, -0.25, 1.5, -2.0] * 100)
    decoded, rate = decode_flac(encode_flac(audio, RATE))
    assert rate == RATE
    assert torch.allclose(decoded, audio.clamp(-1, 1), atol=1.0 / 32767)
    assert encode_flac(audio, RATE) == encode_flac(audio, RATE)


def test_damaged_flac_is_unreadable():
    with pytest.raises(AudioUnreadable):
        decode_flac(b"fLaC but not really")


def test_wav_is_written_whole(tmp_path):
    write_wav(str(tmp_path / "new" / "tone.wav"), torch.from_numpy(_tone(440, 0.5)), RATE)
    samples, rate = soundfile.read(BytesIO((tmp_path / "new" / "tone.wav").read_bytes()), dtype="float32")
    assert rate == RATE
    assert np.abs(samples - _tone(440, 0.5)).max() < 1e-4
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["tone.wav"]


def test_exactly_cuts_and_fills():
    assert exactly(torch.ones(5), 3).tolist() == [1, 1, 1]
    assert exactly(torch.ones(2), 4).tolist() == [1, 1, 0, 0]


def test_muxed_sound_lies_under_the_original_picture(tmp_path, write_video):
    source = write_video(tmp_path / "source.mp4", duration_s=3.0, audio=_tone(880, 3.0)[None])
    output = tmp_path / "out" / "muxed.mp4"
    mux(str(source), _click(1.25), RATE, str(output))
    assert _onset_s(read_audio(str(output), sample_rate=RATE)) == pytest.approx(1.25, abs=0.003)
    before = read_frames(str(source), [SMALL], duration_s=2.0)["small"]
    after = read_frames(str(output), [SMALL], duration_s=2.0)["small"]
    assert torch.equal(before, after)  # copied, not encoded again
    facts = probe(str(output))
    assert facts.codec == "h264"
    assert facts.duration_s == pytest.approx(2.0, abs=0.15)
    content = output.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [file.name for file in output.parent.iterdir()] == ["muxed.mp4"]


def test_muxing_keeps_a_phone_video_upright(tmp_path, write_video, turn_video):
    flat = write_video(tmp_path / "flat.mp4", width=96, height=64)
    upright = turn_video(flat, tmp_path / "upright.mp4")
    for start_s in (0.0, 0.48):  # copied, and encoded anew
        mux(str(upright), _click(0.5, 1.0), RATE, str(tmp_path / "muxed.mp4"), start_s=start_s)
        facts = probe(str(tmp_path / "muxed.mp4"))
        assert (facts.width, facts.height) == (64, 96)


def test_muxing_from_inside_a_video_starts_there(tmp_path, write_video):
    source = write_video(tmp_path / "source.mp4", duration_s=4.0)
    mux(str(source), _click(0.5, 1.0), RATE, str(tmp_path / "muxed.mp4"), start_s=2.0)
    frames = read_frames(str(tmp_path / "muxed.mp4"), [SMALL], duration_s=1.0)["small"]
    assert float(frames[0, :, 16:, 16:].float().mean()) == pytest.approx(20 + 50, abs=3.0)
    assert _onset_s(read_audio(str(tmp_path / "muxed.mp4"), sample_rate=RATE)) == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize(
    ("name", "codec", "size"),
    [("old.avi", "mpeg4", 64), ("web.webm", "libvpx-vp9", 64), ("stream.ts", "libx264", 64), ("odd.mkv", "ffv1", 63)],
)
def test_pictures_that_an_mp4_cannot_take_over_are_encoded_anew(tmp_path, write_video, name, codec, size):
    source = write_video(tmp_path / name, codec=codec, width=size)
    mux(str(source), _click(1.0), RATE, str(tmp_path / "muxed.mp4"))
    facts = probe(str(tmp_path / "muxed.mp4"))
    assert facts.codec == ("vp9" if codec == "libvpx-vp9" else "h264")
    assert facts.width == size // 2 * 2
    frames = read_frames(str(tmp_path / "muxed.mp4"), [SMALL], duration_s=2.0)["small"]
    assert float(frames[-1, :, 16:, 16:].float().mean()) == pytest.approx(69.0, abs=4.0)


def test_muxing_a_text_file_leaves_nothing_behind(tmp_path):
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(VideoUnreadable):
        mux(str(tmp_path / "notes.mp4"), _click(1.0), RATE, str(tmp_path / "out.mp4"))
    assert not (tmp_path / "out.mp4").exists()
