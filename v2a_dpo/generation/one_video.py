"""Sound for one video at a time, for the command line, the served model and the demo page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.media.audio import write_wav
from v2a_dpo.media.mp4 import mux
from v2a_dpo.media.video import read_frames
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.models.precision import autocast
from v2a_dpo.progress import Progress, silent


@dataclass(frozen=True)
class Soundtracks:
    """N sounds of one video: mono audio `[N, S]` in [-1, 1] at `sample_rate`, on the CPU."""

    audio: Tensor
    sample_rate: int


class OneVideoGenerator:
    """A loaded generator, ready for one video after the other.

    Nothing is compiled: that takes longer than one video. Calls must come one at a time.
    """

    def __init__(self, folder: str | Path, *, device: str = "auto", precision: str = "float32") -> None:
        """Loads the model in the local `folder`; raises UserError when it holds none."""
        self.model = load_generator(folder, device=device)
        self._precision: torch.dtype = getattr(torch, precision)
        self.model.prepare_for_sampling(self._precision)
        for use in ("conditions", "decoding"):  # read now: the first video shall take no longer than the others
            self.model.part(use)

    def generate(
        self, video: str, *, prompt: str, duration_s: float, settings: SamplingSettings, clip_id: str = ""
    ) -> Soundtracks:
        """The sounds of the first `duration_s` seconds of `video` (path or URI); an empty `prompt` means no text.

        The noise comes from `settings.seed` and `clip_id` alone, so that the same video under another name sounds the
        same. Raises VideoMissing, VideoUnreadable or VideoTooShort when the video cannot be used.
        """
        frames = read_frames(video, self.model.frame_streams, duration_s=duration_s)
        sampler = CandidateSampler(self.model, settings, duration_s=duration_s, precision=self._precision)
        with torch.inference_mode(), autocast(sampler.device, self._precision):
            conditions = self.model.extract_conditions(
                {name: stream[None] for name, stream in frames.items()}, [prompt or None]
            )
        audio = sampler.audio(sampler.latents([clip_id], conditions.to("cpu", torch.float32)))[0].cpu()
        if not bool(torch.isfinite(audio).all()):
            raise UserError(
                "The generator returned infinite or undefined samples.",
                where=video,
                remedy="Choose another seed or a lower guidance scale; if it stays, the model's weights are damaged.",
            )
        return Soundtracks(audio, self.model.sample_rate)


def generate_video(
    params: Params,
    *,
    video: str,
    prompt: str,
    generator: str,
    output: str,
    candidates: int = 1,
    guidance_scale: float | None = None,
    use_text: bool | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Writes `<video's name>-<sample>.wav` and `.mp4` for each candidate into `output` and returns their paths.

    The sound covers the video's first `prepare.duration_s` seconds. Raises VideoUnreadable, VideoTooShort and the like
    when the video cannot be used.
    """
    with local_copy(generator) as files:
        one_video = OneVideoGenerator(files, device=params.generator.device, precision=params.generator.precision)
    settings = SamplingSettings(
        candidates=candidates,
        steps=params.generate.steps,
        guidance_scale=guidance_scale or params.generate.guidance_scale,
        seed=params.seed,
        use_text=params.generate.use_text if use_text is None else use_text,
    )
    name = Path(video).stem
    progress("Sampling", 0, 1)
    sounds = one_video.generate(
        video, prompt=prompt, duration_s=params.prepare.duration_s, settings=settings, clip_id=name
    )
    progress("Sampling", 1, 1)
    paths = []
    for sample in range(candidates):
        wav, mp4 = (join(output, f"{name}-{sample}.{kind}") for kind in ("wav", "mp4"))
        write_wav(wav, sounds.audio[sample], sounds.sample_rate)
        mux(video, sounds.audio[sample], sounds.sample_rate, mp4)
        paths += [wav, mp4]
        progress("Writing", sample + 1, candidates)
    return paths
