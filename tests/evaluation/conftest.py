"""A small finished loop on real mp4 files of the tiny world: 12 test clips, a base and a better system."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from v2a_dpo.artifacts.code import NO_CODE
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import folder_fingerprint
from v2a_dpo.artifacts.schema import RATINGS, SCORES, TensorType, candidates_schema
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.config import Params
from v2a_dpo.media.audio import encode_flac
from v2a_dpo.randomness import row_seed
from v2a_dpo.stages.prepare import prepare
from v2a_dpo.tiny.codec import PatchCodec
from v2a_dpo.tiny.generator import TinyEncoders, build
from v2a_dpo.tiny.media import write_clip_mp4
from v2a_dpo.tiny.scoring import SCORER_NAMES, build_scorer, save_scorer, store_marginal
from v2a_dpo.tiny.sound import render_audio
from v2a_dpo.tiny.world import DURATION_S, SAMPLE_RATE, make_split, write_events

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
NUM_CLIPS = 12


@pytest.fixture(scope="session")
def golden():
    """Reference numbers of the published metrics: arrays by name."""
    return load_file(GOLDEN / "tiny.safetensors")


@dataclass(frozen=True)
class Loop:
    """Where the small loop's artifacts lie, and its parameters."""

    root: Path
    params: Params

    def folder(self, *parts):
        return str(self.root.joinpath(*parts))

    @property
    def inputs(self):
        """The arguments that evaluate and report have in common."""
        systems = {name: (self.folder("candidates", name), self.folder("scores", name)) for name in ("base", "aligned")}
        return {"clips": self.folder("clips"), "events": self.folder("events.json"), **systems}

    def with_settings(self, **sections):
        """The loop's parameters with the fields in `sections` (section -> field -> value) changed."""
        changed = {name: getattr(self.params, name).model_copy(update=fields) for name, fields in sections.items()}
        return self.params.model_copy(update=changed)

    def evaluate(self, output, *, params=None, **changes):
        """The text of an evaluation to `output`, with the loop's parameters and inputs but for those given."""
        from v2a_dpo.stages.evaluate import evaluate

        inputs = {**self.inputs, "scorers": self.folder("scorers"), **changes}
        return evaluate(params or self.params, **inputs, output=str(output))

    @property
    def guidance_inputs(self):
        """The arguments of guidance but for its output."""
        names = ("clips", "conditions", "scorers", "base", "aligned", "evaluation")
        return {**{name: self.folder(name) for name in names}, "events": self.folder("events.json")}


@pytest.fixture(scope="session")
def loop(tmp_path_factory):
    root = tmp_path_factory.mktemp("loop")
    clip_events = make_split(0, "test", NUM_CLIPS)
    params = Params.model_validate(
        {
            "profile": "tiny",
            "generator": {"family": "tiny", "variant": "tiny", "device": "cpu"},
            "prepare": {"duration_s": DURATION_S, "clips_per_shard": 8},
            "generate": {"steps": 2, "guidance_scale": 2.0},
            "score": {"scorers": "tiny"},
            "evaluate": {"bootstrap_samples": 200, "guidance_curve": [1.0, 2.0], "curve_clips": 4},
            "report": {"gallery_clips": 3},
        }
    )
    write_events(root / "events.json", clip_events)
    (root / "videos").mkdir()
    for events in clip_events:
        write_clip_mp4(root / "videos" / f"{events.clip_id}.mp4", events)
    lines = ["clip_id,prompt,label,has_speech"]
    lines += [
        f"{events.clip_id},{events.prompt},{events.label},{str(events.has_speech).lower()}" for events in clip_events
    ]
    (root / "captions.csv").write_text("\n".join(lines) + "\n")
    save_generators(root, torch.stack([torch.from_numpy(render_audio(events)) for events in clip_events]))
    made = Loop(root, params)
    prepare(
        params,
        videos=made.folder("videos"),
        captions=made.folder("captions.csv"),
        split="test",
        generator=made.folder("base"),
        clips=made.folder("clips"),
        conditions=made.folder("conditions"),
    )
    write_scorers(root)
    generator = np.random.default_rng(0)
    for name, share_late, noise in (("base", 0.7, 0.15), ("aligned", 0.2, 0.03)):
        audio = [damaged(events, generator, share_late=share_late, noise=noise) for events in clip_events]
        rows = [candidate_row(events.clip_id, sound) for events, sound in zip(clip_events, audio, strict=True)]
        write_system(made, name, rows, score_rows(clip_events, generator, better=name == "aligned"))
    return made


def write_scorers(root):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in SCORER_NAMES:
            scorer = build_scorer(name)
            with torch.no_grad():
                # Untrained networks hardly tell sounds apart; larger weights make them.
                for weight in scorer.parameters():
                    weight.mul_(2.0)
            save_scorer(root / "scorers", name, scorer)
    store_marginal(root / "scorers")


def write_system(loop, name, candidates, scores, *, root=None, conditions="the test clips' conditions", made_of=None):
    """Writes the folders `candidates/NAME` and `scores/NAME` under `root` (the loop's own if None), and returns them.

    `made_of` replaces what the scores' manifest says that they were made of.
    """
    made, judged = ((root or loop.root) / kind / name for kind in ("candidates", "scores"))
    schema = candidates_schema(TensorType("float16", (2, 2)))
    write(made, schema, candidates, inputs={"conditions": conditions} if conditions else {})
    sources = {
        "clips": Dataset.open(loop.folder("clips")).fingerprint,
        "candidates": Dataset.open(str(made)).fingerprint,
        "scorers": folder_fingerprint(loop.folder("scorers")),
    }
    write(judged, SCORES, scores, inputs=sources | (made_of or {}))
    return str(made), str(judged)


def write(folder, schema, rows, *, rows_per_shard=8, inputs=None):
    tasks = [
        ShardTask(rows[start : start + rows_per_shard], [str(start)]) for start in range(0, len(rows), rows_per_shard)
    ]
    inputs = {"scorers": "made up"} if inputs is None else inputs
    build_dataset(str(folder), schema, parameters=[], inputs=inputs, tasks=tasks, code=NO_CODE, make=ShardContent)


def save_generators(root, audio_BS):
    """Two untrained generators: the base one predicts no velocity at all, the aligned one something."""
    model = build(TinyEncoders(), PatchCodec.fit(audio_BS), seed=0)
    for name, spread in (("base", 0.0), ("aligned", 0.02)):
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.network.parameters():
                weight.add_(spread * torch.randn(weight.shape, generator=generator))
        (root / name).mkdir()
        model.save(root / name)


def damaged(events, generator, *, share_late, noise):
    """The clip's true sound, late in some clips, with noise."""
    late_s = 0.3 if generator.uniform() < share_late else 0.0
    moved = replace(events, event_times_s=tuple(min(1.9, time_s + late_s) for time_s in events.event_times_s))
    sound = render_audio(moved)
    return torch.from_numpy(sound + noise * generator.normal(size=sound.shape).astype(np.float32))


def candidate_row(clip_id, audio):
    return {
        "clip_id": clip_id,
        "sample": 0,
        "seed": row_seed(0, clip_id, 0),
        "steps": 12,
        "guidance_scale": 2.0,
        "use_text": True,
        "sample_rate": SAMPLE_RATE,
        "latent": bytes(8),
        "audio": {"bytes": encode_flac(audio, SAMPLE_RATE), "path": None},
    }


def score_rows(clip_events, generator, *, better, samples=1):
    rows = []
    for events in clip_events:
        for sample in range(samples):
            quality = generator.normal(0.3 if better else 0.0, 1.0)
            rows.append(
                {
                    "clip_id": events.clip_id,
                    "sample": sample,
                    "imagebind": 0.5 + 0.1 * quality,
                    "clap": 0.45 + 0.1 * quality,
                    "desync": max(0.0, round(0.1 - 0.05 * quality, 2)),
                    "inception": 1.0 + 0.3 * quality,
                    "pesq": 1.1 if events.has_speech else None,
                    "missing": None if events.has_speech else '{"pesq": "no speech"}',
                }
            )
    return rows


@pytest.fixture(scope="session")
def write_rows():
    """A function that makes a data set folder of rows."""
    return write


@pytest.fixture
def new_system(loop, tmp_path):
    """A function that makes a system of the loop's own under `tmp_path`, changed row by row; returns its folders."""

    def make(name, *, of="base", change=lambda row: row, extra=(), scores=lambda row: row, **options):
        candidates = Dataset.open(loop.folder("candidates", of)).table().to_pylist()
        judged = Dataset.open(loop.folder("scores", of)).table().to_pylist()
        rows = [row for row in map(change, candidates) if row is not None]
        kept = [row for row in map(scores, judged) if row is not None]
        return write_system(loop, name, [*rows, *extra], kept, root=tmp_path, **options)

    return make


@pytest.fixture(scope="session")
def evaluated(loop):
    """The small loop's evaluation folder, and the text that the stage returned."""
    output = loop.folder("evaluation")
    return output, loop.evaluate(output)


@pytest.fixture(scope="session")
def curve(loop, evaluated):
    """The small loop's guidance folder."""
    from v2a_dpo.stages.guidance import guidance

    guidance(loop.params, **loop.guidance_inputs, output=loop.folder("guidance"))
    return loop.folder("guidance")


@pytest.fixture(scope="session")
def learning(loop):
    """Folders of AudioScore, pairs and alignment, the first two by their own stages; returns (audioscore, pairs,
    alignment)."""
    from v2a_dpo.stages.mine import mine
    from v2a_dpo.stages.train_audioscore import train_audioscore

    clip_events = make_split(0, "annotation", 60)
    rows = score_rows(clip_events, np.random.default_rng(1), better=False, samples=5)
    write(loop.root / "annotated", SCORES, rows, rows_per_shard=len(rows))
    cuts = np.quantile([row["imagebind"] for row in rows], [1 / 3, 2 / 3])
    ratings = [
        {
            "clip_id": row["clip_id"],
            "sample": row["sample"],
            "rating": ("bad", "medium", "good")[int(np.searchsorted(cuts, row["imagebind"] + shake))],
            "rater": "simulated rater",
            "source": "simulated",
        }
        for row, shake in zip(rows, np.random.default_rng(2).normal(0, 0.08, len(rows)), strict=True)
    ]
    write(loop.root / "ratings", RATINGS, ratings)
    train_audioscore(
        loop.params, scores=loop.folder("annotated"), ratings=loop.folder("ratings"), output=loop.folder("audioscore")
    )
    mine(
        loop.params,
        scores=loop.folder("annotated"),
        audioscore=loop.folder("audioscore"),
        output=loop.folder("pairs"),
    )
    (loop.root / "alignment").mkdir()
    log = "".join(json.dumps(record) + "\n" for record in alignment_log(120))
    (loop.root / "alignment" / "log.jsonl").write_text(log)
    return loop.folder("audioscore"), loop.folder("pairs"), loop.folder("alignment")


def alignment_log(num_steps):
    """Records like the trainer's: accuracy rises, both errors rise, the loser's more."""
    generator = np.random.default_rng(3)
    for step in range(num_steps + 1):
        done = step / num_steps
        record = {"step": step, "alarms": []}
        if step % 20 == 0:
            record |= {"validation_loss": 0.69 - 0.1 * done, "validation_implicit_accuracy": 0.5 + 0.25 * done}
            record |= {"validation_margin": 2 * done}
        if step < num_steps:
            record |= {
                "phase": "easy" if step < 97 else "hard",
                "loss": float(0.69 - 0.15 * done + generator.normal(0, 0.15 * done)),
                "implicit_accuracy": float(
                    np.clip(round(8 * (0.55 + 0.3 * done + generator.normal(0, 0.1))) / 8, 0, 1)
                ),
                "margin": float(2 * done + generator.normal(0, done)),
                "winner_difference": float(0.03 * done + generator.normal(0, 0.004)),
                "loser_difference": float(0.05 * done + generator.normal(0, 0.004)),
                "gradient_norm": float(generator.uniform(70, 170)),
                "learning_rate": 1e-4 * min(1.0, (step + 1) / 20),
            }
        yield record
