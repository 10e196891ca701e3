"""The report of a small loop, its text and, where a browser is installed, what the browser makes of it."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.browser import open_browser
from v2a_dpo.stages.report import report

SECTIONS = [
    "findings",
    "result",
    "listen",
    "spectrograms",
    "guidance",
    "scores",
    "training",
    "audioscore",
    "pairs",
    "settings",
]


@pytest.fixture(scope="module")
def page(loop, evaluated, curve, learning):
    audioscore, pairs, alignment = learning
    output = loop.folder("report", "index.html")
    said = report(
        loop.params,
        **loop.inputs,
        evaluation=evaluated[0],
        guidance=curve,
        audioscore=audioscore,
        pairs=pairs,
        alignment=alignment,
        output=output,
    )
    assert said.startswith(output)
    return Path(output)


class Reader(HTMLParser):
    """Collects what a page refers to and checks that its elements are closed."""

    VOID = frozenset({"meta", "link", "br", "path", "line", "circle", "image"})

    def __init__(self, text):
        super().__init__()
        self.references, self.ids, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.references += [values[name] for name in ("src", "href") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_carries_everything_inside_itself(page):
    reader = Reader(page.read_text())
    assert not reader.open
    assert all(reference.startswith(("data:", "#")) for reference in reader.references)
    assert [anchor for anchor in reader.ids if anchor in SECTIONS] == SECTIONS
    targets = {reference[1:] for reference in reader.references if reference.startswith("#")}
    assert targets <= set(reader.ids)
    assert "url(" not in page.read_text()


def test_the_page_says_what_is_simulated_and_small(page):
    text = " ".join(Reader(page.read_text()).text)
    for words in (
        "Tiny profile",
        "The rater is simulated",
        "Quality (simulated rater)",
        "stand in for PaSST",
        "not the best one",
    ):
        assert words in text
    assert "nan" not in re.findall(r"\b\w+\b", text)


def test_the_gallery_has_three_soundtracks_a_clip_and_event_marks(page, loop):
    text = page.read_text()
    assert text.count("<video") == 3
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", text)
    assert len(sounds) == 9
    assert all(base64.b64decode(sound).startswith(b"fLaC") for sound in sounds)
    clip_events = json.loads(Path(loop.folder("events.json")).read_text())
    shown = re.findall(r'<p class="clip-id">([^<]+)</p>', text)
    cards = text.split('<article class="clip">')[1:]
    for clip_id, card in zip(shown, cards, strict=True):
        assert card.split("</article>")[0].count('class="event"') == len(clip_events[clip_id]["event_times_s"])


def test_parts_that_were_not_made_are_left_out(loop, evaluated, tmp_path):
    inputs = {**loop.inputs, "events": None}
    report(loop.params, **inputs, evaluation=evaluated[0], output=str(tmp_path / "short.html"))
    reader = Reader((tmp_path / "short.html").read_text())
    assert {"training", "audioscore", "pairs"}.isdisjoint(reader.ids)
    assert 'class="event"' not in (tmp_path / "short.html").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_window_and_nothing_complains(browser, page, width):
    browser.open(page.as_uri(), width=width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tall = browser.evaluate(
        "[...document.querySelectorAll('svg, video, table, button')].filter(e => "
        "e.getClientRects().length === 0).length"
    )
    assert tall == 0, "something is not drawn"
    browser.screenshot(page.with_name(f"{width}.png"))
    assert browser.complaints == []


PLAY = """(async () => {
  const clip = document.querySelector('.clip'), video = clip.querySelector('video');
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const playing = () => [...clip.querySelectorAll('audio')].filter((audio) => !audio.paused);
  const moment = () => ({
    video: video.currentTime, paused: video.paused, muted: video.muted,
    pressed: [...clip.querySelectorAll('button[aria-pressed=true]')].map((button) => button.dataset.track),
    sounding: playing().map((audio) => audio.dataset.track),
    sound: Math.max(...playing().map((audio) => audio.currentTime)),
  });
  const until = async (condition) => {
    for (let k = 0; k < 200 && !condition(moment()); k++) await wait(25);
    return moment();
  };
  clip.querySelector('button[data-track=base]').click();
  const base = await until((now) => now.video > 0.3 && now.sound > 0.3);
  clip.querySelector('button[data-track=aligned]').click();
  const aligned = await until((now) => now.sounding.includes('aligned') && now.sound > base.sound);
  const ended = await until((now) => now.pressed.length === 0);
  return { base, aligned, ended };
})()"""


@pytest.mark.slow
def test_soundtracks_play_with_the_video_and_switch_at_the_same_moment(browser, page):
    browser.open(page.as_uri(), width=1280)
    seen = browser.evaluate(PLAY)
    assert seen["base"]["sounding"] == seen["base"]["pressed"] == ["base"]
    assert seen["base"]["muted"]
    assert not seen["base"]["paused"]
    assert seen["aligned"]["sounding"] == seen["aligned"]["pressed"] == ["aligned"]
    assert seen["aligned"]["sound"] >= seen["base"]["sound"], "it goes on, it does not start over"
    assert abs(seen["aligned"]["video"] - seen["aligned"]["sound"]) < 0.3
    assert seen["ended"]["paused"]
    assert seen["ended"]["sounding"] == []
    assert browser.complaints == []
