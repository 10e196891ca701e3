"""Stage for a person: sound for one real video, as wav files and as mp4 files with the sound under the picture."""

from __future__ import annotations

from pathlib import Path

from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import join
from v2a_dpo.config import Params
from v2a_dpo.generation.one_video import OneVideoGenerator
from v2a_dpo.generation.sampler import SamplingSettings
from v2a_dpo.media.audio import write_wav
from v2a_dpo.media.mp4 import mux
from v2a_dpo.progress import Progress, silent


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
