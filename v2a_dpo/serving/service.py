"""The served generator: requests in, sound and video out, one video at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from v2a_dpo.artifacts.checksums import require_checksums
from v2a_dpo.generation.one_video import OneVideoGenerator, Soundtracks
from v2a_dpo.generation.sampler import SamplingSettings
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.media.mp4 import mux
from v2a_dpo.memory import is_out_of_memory
from v2a_dpo.serving.requests import RequestRefused, VideoRequest, check_picture, refusals
from v2a_dpo.serving.settings import ServingSettings

_log = logging.getLogger(__name__)


class GenerationService:
    """A loaded generator behind the limits of its settings."""

    def __init__(self, generator: OneVideoGenerator, settings: ServingSettings) -> None:
        self.settings = settings
        self._generator = generator
        self._working = threading.Lock()
        self._places = threading.BoundedSemaphore(1 + settings.max_waiting)

    @staticmethod
    def load(folder: Path, settings: Mapping[str, Any]) -> GenerationService:
        """The service of the packaged model in `folder`; raises UserError when a file is not what was recorded."""
        require_checksums(folder)  # `load_generator` compares them
        checked = ServingSettings.model_validate(settings)
        generator = OneVideoGenerator(folder, device=checked.device, precision=checked.precision)
        return GenerationService(generator, checked)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Per row the sound (`audio`, FLAC bytes, at `sample_rate`) and the `video` (mp4 bytes) with it.

        Raises RequestRefused with a message for the sender when one row fails, whatever the cause.
        """
        if not rows:
            raise RequestRefused("There is no row to answer.")
        if len(rows) > self.settings.max_videos:
            raise RequestRefused(
                f"{len(rows)} videos are too many: at most {self.settings.max_videos} are accepted at once.", status=413
            )
        names = [f"Row {number}: " if len(rows) > 1 else "" for number in range(len(rows))]
        requests, answers = [], []
        for name, row in zip(names, rows, strict=True):
            with client_errors(name):
                requests.append(VideoRequest.of(row, self.settings))
        with self._turn():
            for name, request in zip(names, requests, strict=True):
                with client_errors(name):
                    answers.append(self._generate(request))
        return answers

    def _generate(self, request: VideoRequest) -> dict[str, Any]:
        with TemporaryDirectory(prefix="v2a-dpo-") as folder:
            mp4 = Path(folder) / "answer.mp4"
            sounds = sound_for(self._generator, request, self.settings, mp4=mp4)
            return {
                "audio": encode_flac(sounds.audio[0], sounds.sample_rate),
                "sample_rate": sounds.sample_rate,
                "video": mp4.read_bytes(),
                "seed": request.seed,
            }

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits for the requests before; raises RequestRefused at once when too many wait already."""
        if not self._places.acquire(blocking=False):
            raise RequestRefused("The server is busy; try again later.", status=429)
        try:
            with self._working:
                yield
        finally:
            self._places.release()


def sound_for(
    generator: OneVideoGenerator, request: VideoRequest, settings: ServingSettings, *, mp4: Path
) -> Soundtracks:
    """The soundtrack for `request`; the video with it is written to `mp4`. Raises RequestRefused."""
    sampling = SamplingSettings(
        candidates=1, steps=settings.steps, guidance_scale=request.guidance_scale, seed=request.seed
    )
    with refusals(), request.file() as video:
        check_picture(video, settings)
        sounds = generator.generate(video, prompt=request.prompt, duration_s=request.duration_s, settings=sampling)
        mux(video, sounds.audio[0], sounds.sample_rate, str(mp4))
        return sounds


@contextmanager
def client_errors(where: str = "") -> Iterator[None]:
    """Turns every error into RequestRefused, with `where` before its message; an unexpected one is only logged."""
    try:
        yield
    except RequestRefused as refusal:
        raise RequestRefused(where + str(refusal), status=refusal.status) from refusal
    except Exception as error:
        _log.exception("A request failed.")
        if is_out_of_memory(error):
            raise RequestRefused(where + "Memory ran out; ask for fewer `seconds`.", status=503) from error
        raise RequestRefused(where + "The server failed; see its log.", status=500) from error
