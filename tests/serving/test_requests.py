from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from tests.serving.conftest import Served
from v2a_dpo.generation.one_video import OneVideoGenerator, Soundtracks
from v2a_dpo.media.audio import decode_flac
from v2a_dpo.serving.requests import MAX_PROMPT_CHARACTERS, MAX_SEED, RequestRefused, VideoRequest, check_picture
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


@pytest.mark.parametrize("missing", [None, float("nan"), ""])
def test_a_missing_value_takes_the_settings_value_in_every_column(missing: object) -> None:
    names = ("prompt", "seconds", "seed", "guidance_scale", "video_path", "a column of nothing")
    request = VideoRequest.of({"video": b"v", **dict.fromkeys(names, missing)}, SETTINGS)
    assert request == VideoRequest.of({"video": b"v"}, SETTINGS)
    assert (request.prompt, request.duration_s, request.seed, request.guidance_scale) == ("", 8.0, 0, 4.5)


@pytest.mark.parametrize("head", ["", "data:video/mp4;base64,", "data:;base64,"])
def test_a_video_in_base64_may_be_a_data_url_and_in_lines(head: str) -> None:
    content = bytes(range(256))
    text = base64.encodebytes(content).decode()
    assert VideoRequest.of({"video": head + text}, SETTINGS).content == content


def test_a_misspelt_column_is_refused_by_name_with_those_that_there_are() -> None:
    assert str(refused({"video": b"v", "promt": "a dog barks"})) == (
        "There is no column `promt`; the columns are video, video_path, prompt, seconds, seed, guidance_scale."
    )


def test_a_seed_of_a_table_with_gaps_is_a_whole_float_and_never_rounded() -> None:
    assert VideoRequest.of({"video": b"v", "seed": 3.0}, SETTINGS).seed == 3
    assert VideoRequest.of({"video": b"v", "seed": MAX_SEED}, SETTINGS).seed == MAX_SEED
    assert "every row needs one" in str(refused({"video": b"v", "seed": float(1 << 60)}))


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
        ("prompt", "x" * (MAX_PROMPT_CHARACTERS + 1), "at most 1000 are accepted"),
        ("seed", 1.5, "`seed` must be a whole number, not 1.5"),
        ("seed", True, "`seed` must be a number, not bool"),
        ("seconds", "2", "`seconds` must be a number, not str"),
        ("prompt", 5, "`prompt` must be text, not int"),
        ("video_path", 5, "exactly one of"),
        ("video", "text!", "this is not base64"),
        ("video", 5, "must be the bytes"),
        ("video", "data:video/mp4,raw", "must be base64"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object, words: str) -> None:
    refusal = refused({"video": b"v", field: value})
    assert words in str(refusal)
    assert refusal.status == 400


def test_a_large_upload_is_413() -> None:
    refusal = refused({"video": bytes(2000)})
    assert refusal.status == 413
    assert "at most 0.001 are accepted" in str(refusal)


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
    with pytest.raises(RequestRefused, match=r"0\.9 megapixels, at most 0\.5 are accepted"):
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


def test_a_picture_that_shows_nothing_is_a_fault_of_the_request(
    service: GenerationService, write_video: Any, tmp_path: Path
) -> None:
    row_of_pixels = write_video(tmp_path / "row.mkv", codec="ffv1", width=160, height=2)
    with pytest.raises(RequestRefused, match="too small or too narrow: 160 x 2 pixels") as caught:
        service.answer([{"video": row_of_pixels.read_bytes()}])
    assert caught.value.status == 400


def test_a_bad_row_among_several_is_named(service: GenerationService, served: Served) -> None:
    rows = [{"video": served.clip.read_bytes()}, {"video": b"no video"}]
    with pytest.raises(RequestRefused, match=r"^Row 1: This is no readable video"):
        service.answer(rows)


def test_a_row_without_a_seed_beside_one_with_a_seed_takes_0(service: GenerationService, served: Served) -> None:
    table = pandas.DataFrame([{"video": served.clip.read_bytes()}, {"video": served.clip.read_bytes(), "seed": 3}])
    first, second = service.answer(table.to_dict("records"))
    assert (first["seed"], second["seed"]) == (0, 3)
    assert first["audio"] != second["audio"]


@pytest.mark.slow
def test_a_store_that_is_away_is_no_fault_of_the_video(
    service: GenerationService, s3_environment: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    settings = service.settings.model_copy(update={"video_root": "s3://bucket/clips"})
    with pytest.raises(RequestRefused) as caught:
        GenerationService(service._generator, settings).answer([{"video_path": "s3://bucket/clips/a.mp4"}])
    assert caught.value.status == 503
    assert "127.0.0.1" not in str(caught.value)
    assert "http://127.0.0.1:9 does not answer" in caplog.text


def test_too_many_rows_and_none_are_refused(service: GenerationService) -> None:
    with pytest.raises(RequestRefused, match="at most 2 are accepted at once") as caught:
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
    settings = served.settings.model_copy(update={"max_waiting": 0})
    service = GenerationService(generator, settings)  # type: ignore[arg-type]
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
