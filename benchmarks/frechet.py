"""The Fréchet distances of two systems on bootstrap resamples of the test set: our way beside a loop in double
precision.

    python -m benchmarks.frechet [--clips 15000] [--dimensions 768] [--rounds 3] [--output benchmarks/results]

Random features with uneven variances stand in for PaSST's. Both ways run in turns on one thread, each round on
resamples of its own; the time is the processor's, so that other work on the machine does not count, and is given for
500 resamples.
"""

from __future__ import annotations

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy starts its threads

import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.manifest import software_versions
from v2a_dpo.evaluation.bootstrap import resample_counts, resample_indices
from v2a_dpo.evaluation.frechet import resampled_frechet_distances

Array = NDArray[np.float64]

RESAMPLES, MEASURED = 500, 5


def make_features(clips: int, dimensions: int) -> tuple[list[Array], Array]:
    """Two systems' features and the real ones `[N, D]`: correlated clip by clip, variances falling as 1 / k."""
    generator = np.random.default_rng(0)
    axes, _ = np.linalg.qr(generator.standard_normal((dimensions, dimensions)))
    loadings = axes * np.arange(1, dimensions + 1) ** -0.5
    real = generator.standard_normal((clips, dimensions))
    systems = [0.5 * real + spread * generator.standard_normal(real.shape) + 0.1 for spread in (0.9, 1.0)]
    return [system @ loadings.T for system in systems], real @ loadings.T


def plain(systems: list[Array], real: Array, counts_RN: NDArray[np.integer]) -> Array:
    """Each distance by itself in double precision: two weighted covariances and the root of one by its eigenvectors."""

    def moments(rows: Array, counts: NDArray[np.integer]) -> tuple[Array, Array]:
        mean = counts @ rows / counts.sum()
        return mean, (rows.T @ (rows * counts[:, None]) - counts.sum() * np.outer(mean, mean)) / (counts.sum() - 1)

    def distance(system: Array, counts: NDArray[np.integer]) -> float:
        (mean1, covariance1), (mean2, covariance2) = moments(system, counts), moments(real, counts)
        values, vectors = np.linalg.eigh(covariance1)
        root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        trace = np.sqrt(np.linalg.eigvalsh(root @ covariance2 @ root).clip(0)).sum()
        return float(np.square(mean1 - mean2).sum() + np.trace(covariance1) + np.trace(covariance2) - 2 * trace)

    return np.array([[distance(system, counts) for counts in counts_RN] for system in systems])


def timed(work: Callable[[], Array]) -> tuple[float, Array]:
    """CPU seconds of `work`, and what it returned."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def measure(options: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of both ways for all resamples, reckoned from a few, and how far apart their distances are."""
    systems, real = make_features(options.clips, options.dimensions)
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "start": []}
    apart, spread = [], []
    for number in range(options.rounds):
        counts = resample_counts(resample_indices(options.clips, resamples=MEASURED + 1, seed=number))
        start, _ = timed(lambda: resampled_frechet_distances(systems, real, counts[:1]))  # noqa: B023
        ours, found = timed(lambda: resampled_frechet_distances(systems, real, counts))  # noqa: B023
        loop, expected = timed(lambda: plain(systems, real, counts[1:]))  # noqa: B023
        seconds["ours"].append((ours - start) / MEASURED)
        seconds["start"].append(start)
        seconds["plain"].append(loop / MEASURED)
        apart.append(np.abs(found[:, 1:] - expected))
        spread.append(expected)
    each = median(seconds["ours"])
    return {
        "plain_s": RESAMPLES * median(seconds["plain"]),
        "ours_s": median(seconds["start"]) + (RESAMPLES - 1) * each,
        "largest_difference": float(np.max(apart)),
        "standard_deviation": float(np.concatenate(spread, axis=1).std(axis=1, ddof=1).min()),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a short page."""
    size = f"{result['clips']:,} clips, {result['dimensions']} dimensions"
    return f"""# The Fréchet distance of two systems on {RESAMPLES} resamples of {size}

{result["date"]}, one thread of {result["hardware"]},
{", ".join(f"{name} {version}" for name, version in result["software"].items())}

| way | CPU seconds | times plain |
| --- | ---: | ---: |
| each distance by itself, double precision, all rows | {result["plain_s"]:.0f} | 1.0 |
| `resampled_frechet_distances` | {result["ours_s"]:.0f} | {result["plain_s"] / result["ours_s"]:.1f} |

Estimated from {MEASURED} resamples per way in each of {result["rounds"]} rounds, in turns. The two ways differ by
{result["largest_difference"]:.1e} at most; the standard deviation over resamples is
{result["standard_deviation"]:.1e}. Matrix products take most of the time and run on all cores.
Made by `python -m benchmarks.frechet --clips {result["clips"]} --dimensions {result["dimensions"]} \
--rounds {result["rounds"]}`.
"""


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=15_000)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": f"{os.cpu_count()} x {platform.machine()}",
        "software": {**software_versions(), "python": platform.python_version(), "numpy": np.__version__},
        "clips": options.clips,
        "dimensions": options.dimensions,
        "rounds": options.rounds,
        **measure(options),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "frechet.json", result)
    (options.output / "frechet.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
