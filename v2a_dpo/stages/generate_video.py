"""Stage for a person: sound for one real video, as wav files and as mp4 files with the sound under the picture."""

from __future__ import annotations

from pathlib import Path

from v2a_dpo.artifacts.folder import local_copy
from v2a_dpo.artifacts.location import join
from v2a_dpo.config import Params
from v2a_dpo.generation.sampler import SamplingSettings
from v2a_dpo.media.audio import write_wav
from v2a_dpo.media.mux import mux
from v2a_dpo.media.video import read_frames
from v2a_dpo.models.catalog import load_generator
from v2a_dpo.progress import Progress, silent
from v2a_dpo.stages.generate import make_sampler


def generate_video(
    params: Params,
    *,
    video: str,
    prompt: str,
    generator: str,
    output: str,
    candidates: int = 1,
    guidance_scale: float | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Writes `<video's name>-<sample>.wav` and `.mp4` for each candidate into `output` and returns their paths.

    The sound covers the video's first `prepare.duration_s` seconds. Raises VideoUnreadable, VideoTooShort and the like
    when the video cannot be used.
    """
    duration_s = params.prepare.duration_s
    with local_copy(generator) as files:
        model = load_generator(files, device=params.generator.device)
    frames = read_frames(video, model.frame_streams, duration_s=duration_s)
    conditions = model.extract_conditions({name: stream[None] for name, stream in frames.items()}, [prompt or None])
    settings = SamplingSettings(
        candidates=candidates,
        steps=params.generate.steps,
        guidance_scale=guidance_scale or params.generate.guidance_scale,
        seed=params.seed,
    )
    name = Path(video).stem
    # Compiling takes longer than one video.
    sampler = make_sampler(params, model, settings, compiled=False)
    progress("Sampling", 0, 1)
    audio = sampler.audio(sampler.latents([name], conditions.to("cpu")))[0].cpu()
    progress("Sampling", 1, 1)
    paths = []
    for sample in range(candidates):
        wav, mp4 = (join(output, f"{name}-{sample}.{kind}") for kind in ("wav", "mp4"))
        write_wav(wav, audio[sample], model.sample_rate)
        mux(video, audio[sample], model.sample_rate, mp4)
        paths += [wav, mp4]
        progress("Writing", sample + 1, candidates)
    return paths
