"""The demo page as a person meets it: a real server, a real browser."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import open_browser
from tests.serving.conftest import Served, free_port, process, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address."""
    folder = tmp_path_factory.mktemp("demo")
    url, log = f"http://127.0.0.1:{(port := free_port())}/", folder / "demo.log"
    command = ["v2a_dpo.cli", "demo", "--base", str(served.base), "--aligned", str(served.aligned)]
    command += ["--params", str(served.params_file), "--port", str(port)]
    with process("-m", *command, cwd=folder, log=log) as running:
        wait_for(url, running, log)
        yield url
        assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def until(browser: Any, condition: str, *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not browser.evaluate(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)


def generate(browser: Any, page: str, video: Path) -> None:
    """Opens the page, gives it the video and presses the button."""
    browser.open(page, width=1280)
    until(browser, "!!document.querySelector('#video input[type=file]')")
    browser.choose_file("#video input[type=file]", video)
    until(browser, "!!document.querySelector('#video video')")
    browser.evaluate("document.querySelector('#generate').click()")


@pytest.fixture(scope="module")
def generated(browser: Any, page: str, served: Served) -> Any:
    """The browser with both models' answers on the page."""
    generate(browser, page, served.clip)
    until(browser, "!!document.querySelector('#spectrograms svg.spectrograms')")
    for name in ("base", "aligned"):
        until(browser, f"document.querySelector('#{name}-video video')?.readyState >= 3")
        until(browser, f"!!document.querySelector('#{name}-audio .play-pause-button')")
    return browser


PLAY = """(async () => {
  const video = document.querySelector('#%s-video video');
  video.muted = false;
  await video.play();
  for (let k = 0; k < 200 && video.currentTime < 0.4; k++) await new Promise((done) => setTimeout(done, 25));
  const seen = { duration: video.duration, at: video.currentTime, sound: video.webkitAudioDecodedByteCount };
  video.pause();
  return seen;
})()"""


@pytest.mark.parametrize("name", ["base", "aligned"])
def test_both_videos_play_with_sound(generated: Any, name: str) -> None:
    seen = generated.evaluate(PLAY % name)
    assert seen["duration"] == pytest.approx(2.0, abs=0.15)
    assert seen["at"] > 0.3
    assert seen["sound"] > 1000


@pytest.mark.parametrize("name", ["base", "aligned"])
def test_both_sounds_play_alone(generated: Any, name: str) -> None:
    generated.evaluate(f"document.querySelector('#{name}-audio .play-pause-button').click()")
    until(generated, f"document.querySelector('#{name}-audio').innerText.includes('0:01')")
    assert "0:02" in generated.evaluate(f"document.querySelector('#{name}-audio').innerText")


def test_the_spectrograms_are_one_figure_with_both_models(generated: Any) -> None:
    assert generated.evaluate("document.querySelectorAll('#spectrograms image').length") == 2
    assert (
        generated.evaluate("document.querySelector('#spectrograms svg.spectrograms').getBoundingClientRect().height")
        > 100
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_window(generated: Any, width: int, tmp_path: Path) -> None:
    generated.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
    )
    until(generated, f"document.documentElement.scrollWidth <= innerWidth && innerWidth === {width}", seconds=20)
    generated.screenshot(tmp_path / f"{width}.png")


def test_nothing_comes_from_elsewhere_and_nothing_complains(generated: Any, page: str) -> None:
    sources = generated.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(sources) > 10
    assert [source for source in sources if not source.startswith((page, "data:", "blob:"))] == []
    # Gradio's client warns that it cannot close a stream which has ended already.
    errors = [item for item in generated.complaints if item.get("type") != "warning"]
    assert errors == []


def test_the_button_that_would_fetch_an_encoder_is_not_shown(generated: Any) -> None:
    shown = "[...document.querySelectorAll('#video button')].filter((button) => button.getClientRects().length)"
    labels = generated.evaluate(f"{shown}.map((button) => button.ariaLabel)")
    assert "Clear" in labels
    assert [label for label in labels if label.startswith("Trim")] == []


def test_a_bad_upload_is_a_message_on_the_page(browser: Any, generated: Any, page: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video")
    generate(browser, page, bad)
    until(browser, "document.body.innerText.includes('This is no readable video')")
    assert browser.evaluate("document.body.innerText.includes('Traceback')") is False


def test_files_of_the_server_are_not_given_out(page: str, served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{page}gradio_api/file={served.params_file}", timeout=60)
    assert caught.value.code == 403
