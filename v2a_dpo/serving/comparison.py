"""Models compared on one video, for the demo page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from v2a_dpo.generation.one_video import OneVideoGenerator
from v2a_dpo.media.audio import write_wav
from v2a_dpo.media.spectrogram_figure import Panel, spectrogram_figure
from v2a_dpo.serving.model_source import model_folder
from v2a_dpo.serving.requests import VideoRequest
from v2a_dpo.serving.service import sound_for
from v2a_dpo.serving.settings import ServingSettings

#: Called with the share that is done, in [0, 1], and what is done next.
ShowStep = Callable[[float, str], None]


@dataclass(frozen=True)
class Soundtrack:
    """What one model made: the video with its sound, and the sound alone."""

    video: Path
    sound: Path


@dataclass(frozen=True)
class ComparedClip:
    """What all models made of one video, by name, and their spectrograms above each other as SVG text."""

    soundtracks: Mapping[str, Soundtrack]
    spectrograms: str


class ModelComparison:
    """Loaded models by name, which sound the same videos from the same noise."""

    def __init__(self, models: Mapping[str, str], settings: ServingSettings) -> None:
        """Loads each model from a folder, a packaged model or the registry; raises UserError when one is missing."""
        self.settings = settings
        self._generators: dict[str, OneVideoGenerator] = {}
        for name, source in models.items():
            with model_folder(source) as folder:
                self._generators[name] = OneVideoGenerator(folder, device=settings.device, precision=settings.precision)

    def compare(self, request: VideoRequest, *, folder: Path, step: ShowStep) -> ComparedClip:
        """Each model's sound for the request's video, as files in `folder`. Raises RequestRefused."""
        soundtracks, panels = {}, []
        for number, (name, generator) in enumerate(self._generators.items()):
            step(number / len(self._generators), f"{name.capitalize()} model")
            files = Soundtrack(folder / f"{name}.mp4", folder / f"{name}.wav")
            sounds = sound_for(generator, request, self.settings, mp4=files.video)
            write_wav(str(files.sound), sounds.audio[0], sounds.sample_rate)
            soundtracks[name] = files
            panels.append(Panel(name.capitalize(), name, sounds.audio[0], sounds.sample_rate))
        step(1.0, "Spectrograms")
        description = f"Mel spectrograms of {' and '.join(soundtracks)}, on one scale of loudness"
        return ComparedClip(soundtracks, spectrogram_figure(panels, description=description))
