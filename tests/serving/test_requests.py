from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import Served
from v2a_dpo.generation.one_video import OneVideoGenerator, Soundtracks
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.serving.requests import MAX_PROMPT_CHARACTERS, RequestRefused, VideoRequest, check_picture
from v2a_dpo.serving.service import GenerationService
from v2a_dpo.serving.settings import ServingSettings

SETTINGS = ServingSettings(max_upload_mib=0.001, max_duration_s=10.0, duration_s=8.0, video_root="")


def refused(row: dict[str, Any], settings: ServingSettings = SETTINGS) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        VideoRequest.of(row, settings)
    return caught.value


def test_what_a_request_leaves_out_takes_the_settings_values() -> None:
    request = VideoRequest.of({"video": b"v", "prompt": float("nan"), "seed": None}, SETTINGS)
    assert (request.prompt, request.duration_s, request.seed, request.guidance_scale) == ("", 8.0, 0, 4.5)
    assert VideoRequest.of({"video": b"v"}, SETTINGS.model_copy(update={"max_duration_s": 5.0})).duration_s == 5.0


@pytest.mark.parametrize("row", [{}, {"video": None}, {"video": b"v", "video_path": "v.mp4"}])
def test_exactly_one_video_is_needed(row: dict[str, Any]) -> None:
    assert "exactly one of `video`" in str(refused(row))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("seconds", 0.5, "`seconds` must lie between 1 and 10, not 0.5."),
        ("seconds", 10.5, "between 1 and 10"),
        ("seconds", float("inf"), "between 1 and 10"),
        ("seconds", "two", "`seconds` must be a number"),
        ("seed", -1, "`seed` must lie between 0"),
        ("guidance_scale", 0.0, "`guidance_scale` must lie between 1 and 20"),
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1), "at most 1000 are taken"),
        ("video", "text", "must be the bytes"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object, words: str) -> None:
    refusal = refused({"video": b"v", field: value})
    assert words in str(refusal)
    assert refusal.status == 400


def test_a_large_upload_is_413() -> None:
    refusal = refused({"video": bytes(2000)})
    assert refusal.status == 413
    assert "at most 0.001 are taken" in str(refusal)


def test_no_path_is_read_unless_a_folder_is_named() -> None:
    assert refused({"video_path": "clip.mp4"}).status == 403


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/passwd", "s3://bucket/clip.mp4", "link.mp4"])
def test_paths_outside_the_named_folder_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "secret.mp4").touch()
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    settings = SETTINGS.model_copy(update={"video_root": str(root)})
    assert refused({"video_path": path}, settings).status == 403
    (root / "clip.mp4").touch()
    assert VideoRequest.of({"video_path": "clip.mp4"}, settings).path == str(root / "clip.mp4")
    assert VideoRequest.of({"video_path": str(root / "clip.mp4")}, settings).path == str(root / "clip.mp4")


@pytest.mark.parametrize(("path", "allowed"), [("a/b.mp4", True), ("../other/b.mp4", False)])
def test_a_remote_folder_is_a_prefix_without_a_way_out(path: str, allowed: bool) -> None:
    settings = SETTINGS.model_copy(update={"video_root": "s3://bucket/clips"})
    row = {"video_path": f"s3://bucket/clips/{path}"}
    if allowed:
        assert VideoRequest.of(row, settings).path == row["video_path"]
    else:
        assert refused(row, settings).status == 403
    assert refused({"video_path": "s3://bucket/clips2/b.mp4"}, settings).status == 403


def test_a_huge_picture_is_refused_before_it_is_decoded(write_video: Any, tmp_path: Path) -> None:
    video = write_video(tmp_path / "large.mp4", width=1280, height=720, duration_s=0.2)
    check_picture(str(video), SETTINGS)
    with pytest.raises(RequestRefused, match=r"0\.9 megapixels, at most 0\.5 are taken"):
        check_picture(str(video), SETTINGS.model_copy(update={"max_megapixels": 0.5}))


@pytest.fixture(scope="module")
def service(served: Served) -> GenerationService:
    return GenerationService(OneVideoGenerator(served.aligned, device="cpu"), served.settings)


def sound(service: GenerationService, row: dict[str, Any]) -> np.ndarray:
    audio, _ = decode_flac(service.answer([row])[0]["audio"])
    return audio.numpy()


def test_the_seed_the_prompt_and_the_guidance_scale_reach_the_sound(service: GenerationService, served: Served) -> None:
    row = {"video": served.clip.read_bytes(), "prompt": "a bell", "seed": 3}
    first = sound(service, row)
    assert np.array_equal(first, sound(service, row))
    for change in ({"seed": 4}, {"prompt": "a drum"}, {"guidance_scale": 6.0}):
        assert not np.array_equal(first, sound(service, {**row, **change}))


@pytest.mark.parametrize("seconds", [1.0, 1.7, 2.0])
def test_the_sound_is_as_long_as_asked_for(service: GenerationService, served: Served, seconds: float) -> None:
    audio = sound(service, {"video": served.clip.read_bytes(), "seconds": seconds})
    assert audio.size / 16_000 == pytest.approx(seconds, abs=1 / 32)


def test_a_short_video_is_told_so_without_a_path_of_the_server(service: GenerationService, served: Served) -> None:
    with pytest.raises(RequestRefused, match="too short") as caught:
        service.answer([{"video": served.clip.read_bytes(), "seconds": 3.5}])
    assert "Ask for fewer `seconds`." in str(caught.value)
    assert "/" not in str(caught.value)


def test_a_bad_row_among_several_is_named(service: GenerationService, served: Served) -> None:
    rows = [{"video": served.clip.read_bytes()}, {"video": b"no video"}]
    with pytest.raises(RequestRefused, match=r"^Row 1: This is no readable video"):
        service.answer(rows)


def test_too_many_rows_and_none_are_refused(service: GenerationService) -> None:
    with pytest.raises(RequestRefused, match="at most 2 are taken at once") as caught:
        service.answer([{}, {}, {}])
    assert caught.value.status == 413
    with pytest.raises(RequestRefused, match="no row"):
        service.answer([])


class SlowGenerator:
    """Holds a request until it may go on, so that others meet a busy service."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()

    def generate(self, *_: object, **__: object) -> Soundtracks:
        self.started.set()
        assert self.may_end.wait(30)
        raise ValueError("secret detail")


def test_a_busy_service_refuses_at_once_and_an_unexpected_failure_stays_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    generator = SlowGenerator()
    service = GenerationService(generator, served.settings.model_copy(update={"max_waiting": 0}))  # type: ignore[arg-type]
    row = {"video": served.clip.read_bytes()}
    refusals: list[RequestRefused] = []

    def ask() -> None:
        with pytest.raises(RequestRefused) as caught:
            service.answer([row])
        refusals.append(caught.value)

    first = threading.Thread(target=ask)
    first.start()
    assert generator.started.wait(30)
    ask()
    generator.may_end.set()
    first.join()
    assert [refusal.status for refusal in refusals] == [429, 500]
    assert "secret" not in str(refusals[1])
    assert "secret detail" in caplog.text
