"""Candidates a minute with the engine beside the plain way, measured in turns in one run, weights random.

    python -m benchmarks.generation [--variant small_16k] [--steps 25] [--seconds 8] [--clips 2] [--rounds 2] [--threads
    2]

The plain way is float32: visual features for every candidate, one candidate at a time, a forward pass for each guidance
branch, modulations for every latent step, the vocoder of the `bigvgan` package as it is. The engine draws N = 5
candidates of all clips at once with features once a clip, in float32 and in bfloat16. `--steps` and `--seconds` shorten
the run; all parts are timed apart, and with fewer steps the rates are those of the paper's 25 steps, reckoned from the
time a step took. Features are reckoned from two of CLIP's frames and one segment of the motion encoder.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bigvgan.alias_free_activation.torch.act import Activation1d

from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.manifest import software_versions
from v2a_dpo.flow import sample_euler
from v2a_dpo.generation.batches import automatic_batch_size
from v2a_dpo.generation.sampler import CandidateSampler, SamplingSettings
from v2a_dpo.media.mel import MEL_44K
from v2a_dpo.models.antialiased import AntiAliasedActivation
from v2a_dpo.models.base import Conditions
from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS, MelCodec
from v2a_dpo.models.mmaudio.config import VARIANTS
from v2a_dpo.models.mmaudio.embeddings import nearest_exact_index
from v2a_dpo.models.mmaudio.encoders import MMAudioEncoders
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import CLIP_STREAM, SYNC_STREAM, Sequences
from v2a_dpo.models.precision import autocast
from v2a_dpo.models.vocoder import merge_weight_norm

PLAIN = "plain, float32"
CANDIDATES, STEPS, GUIDANCE_SCALE = 5, 25, 4.5
#: TFLOP of one velocity call on 8 s, two a multiply-add, counted on the network as published.
VELOCITY_TFLOP = {
    "small_16k": 0.0573,
    "small_44k": 0.0784,
    "medium_44k": 0.3063,
    "large_44k": 0.5139,
    "large_44k_v2": 0.5139,
}
#: Dense bfloat16 peak of GPUs in TFLOP/s, by a part of their name.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}

Seconds = dict[str, float]


def make_model(variant: str, device: torch.device) -> MMAudioModel:
    """The generator at full size with random weights everywhere, the condition encoders on the meta device."""
    generator = torch.Generator().manual_seed(0)
    network = MMAudioNetwork(VARIANTS[variant], generator=generator)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02, generator=generator)
        network.latent_std.fill_(1.0)
    name = "16k" if variant.endswith("16k") else "44k"
    codec = MelCodec.official(name)
    merge_weight_norm(codec.vocoder)
    codec.eval().requires_grad_(False).to(device)
    network.eval().requires_grad_(False).to(device)
    return MMAudioModel(
        network,
        Sequences.official(OFFICIAL_CODECS[name][0]),
        load_encoders=MMAudioEncoders,
        load_codec=lambda: codec,
    )


def restore_package_activations(codec: MelCodec) -> None:
    """Puts the `bigvgan` package's own activations back into the vocoder."""
    for module in list(codec.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, AntiAliasedActivation):
                original = Activation1d(child.act)
                setattr(module, name, original.to(next(codec.parameters()).device))


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], torch.Tensor], device: torch.device) -> tuple[float, torch.Tensor]:
    """Seconds of `work`, and what it returned."""
    synchronize(device)
    started = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - started, result


class Plain:
    """The plain way: what a script does that calls the generator once a candidate."""

    def __init__(self, model: MMAudioModel, *, steps: int, seconds: float) -> None:
        self.model, self.steps, self.seconds = model, steps, seconds
        self.device = next(model.network.parameters()).device
        restore_package_activations(model.codec)

    @torch.inference_mode()
    def __call__(self) -> Seconds:
        """Seconds a step of sampling and seconds of decoding, a candidate."""
        length, channels = self.model.latent_shape(self.seconds)
        noise = torch.randn(1, length, channels, device=self.device)
        embedded, empty = (self._embed() for _ in range(2))

        def velocity(latents: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
            conditional = self.model.velocity(latents, t_B, embedded)
            return GUIDANCE_SCALE * conditional + (1 - GUIDANCE_SCALE) * self.model.velocity(latents, t_B, empty)

        sampling, latents = timed(lambda: sample_euler(velocity, noise, steps=self.steps), self.device)
        decoding, _ = timed(lambda: self.model.decode(latents), self.device)
        return {"step": sampling / self.steps, "decode": decoding}

    def _embed(self) -> Conditions:
        embedded = dict(self.model.embed(self.model.empty_conditions(self.seconds)).tensors)
        index = nearest_exact_index(
            embedded["sync"].shape[1], self.model.latent_shape(self.seconds)[0], device=self.device
        )
        return Conditions(embedded | {"sync": embedded["sync"][:, index]})


class Engine:
    """The engine's sampler on full batches."""

    def __init__(
        self,
        model: MMAudioModel,
        *,
        steps: int,
        seconds: float,
        clips: int | None,
        precision: torch.dtype,
        compiled: bool,
    ) -> None:
        model.prepare_for_sampling(precision)
        settings = SamplingSettings(CANDIDATES, steps, GUIDANCE_SCALE, seed=0)
        backend = "inductor" if compiled else None
        self.sampler = CandidateSampler(
            model, settings, duration_s=seconds, precision=precision, compile_backend=backend
        )
        self.clips = clips or automatic_batch_size(self.sampler)
        raw = model.empty_conditions(seconds).to("cpu").tensors
        self.conditions = Conditions({name: torch.randn(self.clips, *row.shape[1:]) for name, row in raw.items()})
        self.peak_bytes = 0

    def __call__(self) -> Seconds:
        """Seconds a step of sampling and seconds of decoding, a candidate."""
        sampler, rows = self.sampler, self.clips * CANDIDATES
        names = [str(clip) for clip in range(self.clips)]
        sampling, latents = timed(lambda: sampler.latents(names, self.conditions), sampler.device)
        decoding, _ = timed(lambda: sampler.audio(latents), sampler.device)
        if sampler.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(sampler.device)
        return {"step": sampling / sampler.settings.steps / rows, "decode": decoding / rows}


class Features:
    """The frozen visual encoders at full size on a part of a clip."""

    def __init__(self, device: torch.device, *, seconds: float) -> None:
        self.device, self.encoders = device, MMAudioEncoders().to(device)
        self.frames, rows = Sequences.official(MEL_44K).feature_lengths(seconds)
        self.segments = rows / self.encoders.sync.config.segment_tokens

    @torch.inference_mode()
    def __call__(self, precision: torch.dtype) -> float:
        """Seconds of one clip's features, reckoned from two frames of CLIP and one segment of the motion encoder."""
        clip, sync = (
            torch.randint(256, (1, count, 3, stream.height, stream.width), dtype=torch.uint8, device=self.device)
            for stream, count in ((CLIP_STREAM, 2), (SYNC_STREAM, 16))
        )
        with autocast(self.device, precision):
            both, _ = timed(lambda: self.encoders.video({"clip": clip, "sync": sync})[0], self.device)
            with_one, _ = timed(lambda: self.encoders.video({"clip": clip[:, :1], "sync": sync})[0], self.device)
        frame = max(both - with_one, 0.0)
        return frame * self.frames + max(with_one - frame, 0.0) * self.segments


def summarise(rounds: list[Seconds], *, clips_share: int) -> dict[str, float]:
    """Medians over the rounds, and candidates a minute at the paper's number of steps, with and without features.

    `clips_share` is the number of candidates that share a clip's features.
    """
    features, step, decode = (median(seconds[part] for seconds in rounds) for part in ("features", "step", "decode"))
    candidate = STEPS * step + decode
    return {
        "features_s": features / clips_share,
        "sampling_s": STEPS * step,
        "decoding_s": decode,
        "candidates_per_minute": 60 / (features / clips_share + candidate),
        "candidates_per_minute_without_features": 60 / candidate,
    }


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """All ways in turns, `--rounds` times after a warm-up; the order changes from round to round."""
    common = {"steps": options.steps, "seconds": options.seconds}
    compiled = device.type == "cuda"
    model = make_model(options.variant, device)
    ways: dict[str, Callable[[], Seconds]] = {PLAIN: Plain(deepcopy(model), **common)}
    precisions = {PLAIN: torch.float32}
    for precision in (torch.float32, torch.bfloat16):
        name = f"engine, {str(precision).removeprefix('torch.')}"
        ways[name] = Engine(deepcopy(model), clips=options.clips, precision=precision, compiled=compiled, **common)
        precisions[name] = precision
    features = Features(device, seconds=options.seconds)
    rounds: dict[str, list[Seconds]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        names = list(ways) if number % 2 else list(ways)[::-1]
        for name in names:
            seconds = ways[name]() | {"features": features(precisions[name])}
            if number:
                rounds[name].append(seconds)
    results = {name: summarise(found, clips_share=1 if name == PLAIN else CANDIDATES) for name, found in rounds.items()}
    for name, result in results.items():
        for rate, times in (
            ("candidates_per_minute", "times_plain"),
            ("candidates_per_minute_without_features", "times_plain_without_features"),
        ):
            result[times] = result[rate] / results[PLAIN][rate]
        way = ways[name]
        if isinstance(way, Engine):
            result["clips_per_batch"], result["peak_gib"] = way.clips, way.peak_bytes / 2**30
        sampling_tflop = 2 * STEPS * VELOCITY_TFLOP[options.variant] * options.seconds / 8
        result["sampling_tflops"] = sampling_tflop / result["sampling_s"]
    return {"ways": results}


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a short page."""
    lines = []
    for name, way in result["ways"].items():
        peak = result["peak_tflops"]
        share = f" ({way['sampling_tflops'] / peak:.0%} of peak)" if peak and "bfloat16" in name else ""
        lines.append(
            f"| {name} | {way['candidates_per_minute']:.3g} | {way['times_plain']:.2f} | "
            f"{way['candidates_per_minute_without_features']:.3g} | {way['times_plain_without_features']:.2f} | "
            f"{way['features_s']:.3g} | {way['sampling_s']:.3g} | {way['decoding_s']:.3g} | "
            f"{way['sampling_tflops']:.3g}{share} |"
        )
    table = "\n".join(lines)
    return f"""# Generating with {result["variant"]}

{result["date"]}, {result["hardware"]}, {", ".join(f"{name} {version}" for name, version in result["software"].items())}

| way | candidates a minute | times plain | without features | times plain | features, s | sampling, s | decoding, s | \
sampling, TFLOP/s |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{table}

Seconds are per candidate of {result["seconds"]:g} s at {STEPS} steps, estimated from {result["steps"]} measured ones;
medians of {result["rounds"]} rounds in turns. The engine sampled {CANDIDATES} candidates for each of
{result["clips_per_batch"]} clips at a time and computes a clip's visual features once; the plain way computes them for
every candidate. Features are estimated from two frames and one segment. TFLOP/s count the network's published
arithmetic.
Made by `python -m benchmarks.generation --variant {result["variant"]} --steps {result["steps"]} \
--seconds {result["seconds"]:g} --clips {result["clips_per_batch"]} --rounds {result["rounds"]}`.
"""


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=list(VARIANTS), help="default: large_44k on a GPU, small_16k without")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clips", type=int, help="clips a batch; chosen from the device by default")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.variant = options.variant or ("large_44k" if device.type == "cuda" else "small_16k")
    torch.set_num_threads(options.threads)
    measured = measure(options, device)
    on_gpu = device.type == "cuda"
    name = (
        torch.cuda.get_device_name(device)
        if on_gpu
        else f"{options.threads} threads of {os.cpu_count()} x {platform.machine()}"
    )
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": name,
        "software": {**software_versions(), "python": platform.python_version(), "torch": torch.__version__},
        "variant": options.variant,
        "steps": options.steps,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "clips_per_batch": measured["ways"]["engine, bfloat16"]["clips_per_batch"],
        "peak_tflops": next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None),
        **measured,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    stem = f"generation-{options.variant}"
    write_json(options.output / f"{stem}.json", result)
    (options.output / f"{stem}.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
