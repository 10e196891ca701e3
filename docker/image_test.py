"""Runs two stages inside an image as the cluster would, and compares what they write with what this checkout writes.

The container has a read-only root file system, no network, no capabilities and user 1000; only /tmp and the test's own
folder are writable. `world` renders videos there, `mine` makes preference pairs of 200 clips; the same two stages run
here, and the captions, the events and the pairs must be equal. Then MLflow's server starts in it as the manifests say,
and must answer under its own name and refuse another. Run by `make image-test`; needs docker or podman.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import av
import numpy as np
import yaml

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.schema import PAIRS, SCORE_NAMES, SCORES
from v2a_dpo.artifacts.shards import ShardContent, ShardTask, build_dataset
from v2a_dpo.params import load_params
from v2a_dpo.preference.audioscore import METRICS_FILE, AudioScore
from v2a_dpo.stages.mine import mine
from v2a_dpo.stages.world import world

CONFIG = Path("configs/tiny.yaml")
SETTINGS = ["world.annotation_clips=1", "world.preference_clips=2", "world.test_clips=1"]
NUM_CLIPS, CANDIDATES = 200, 5
#: What mining asks of an AudioScore before it uses it: these scores are random, and so is the classifier.
SCORERS = "random"
MEASURES = {"inputs": {"scorers": SCORERS}, "validation": {"ratings": 0, "accuracy": 1.0, "majority_accuracy": 0.0}}

K8S = Path(__file__).parents[1] / "k8s"
#: Starts the command that it is given and prints, by name, the status with which the server answers a question.
PROBE = """
import json, subprocess, sys, time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

server = subprocess.Popen(sys.argv[2:], stdout=sys.stderr)
for _ in range(300):
    try:
        urlopen("http://127.0.0.1:5000/health").close()
        break
    except OSError:
        time.sleep(1)
statuses = {}
for name in sys.argv[1].split():
    search = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        statuses[name] = urlopen(Request(search, headers={"Host": name})).status
    except HTTPError as error:
        statuses[name] = error.code
print(json.dumps(statuses))
server.terminate()
"""
STATUSES = {"mlflow.v2a-dpo.svc:5000": 200, "elsewhere.example.org": 403}


def write_inputs(folder: Path) -> None:
    """Writes scores of NUM_CLIPS clips and an AudioScore with random weights to `folder`."""
    random = np.random.default_rng(0)
    scores_CNS = random.standard_normal((NUM_CLIPS, CANDIDATES, len(SCORE_NAMES)))
    rows = [
        {
            "clip_id": f"clip{c:03d}",
            "sample": k,
            "missing": None,
            **dict(zip(SCORE_NAMES, scores_S.tolist(), strict=True)),
        }
        for c, scores_NS in enumerate(scores_CNS)
        for k, scores_S in enumerate(scores_NS)
    ]
    build_dataset(
        str(folder / "scores"),
        SCORES,
        parameters={},
        inputs={"scorers": SCORERS},
        tasks=[ShardTask(rows, ["random"])],
        make=ShardContent,
    )
    zero_S = np.zeros(len(SCORE_NAMES), np.float32)
    hidden_HS = random.standard_normal((8, len(SCORE_NAMES))).astype(np.float32)
    output_KH = random.standard_normal((3, 8)).astype(np.float32)
    AudioScore(zero_S, zero_S + 1, hidden_HS, np.zeros(8, np.float32), output_KH, np.zeros(3, np.float32)).save(
        str(folder / "audioscore"), {METRICS_FILE: json.dumps(MEASURES, allow_nan=False).encode()}
    )


def container_command(
    runner: list[str], options: list[str], *, image: str, folder: Path, command: list[str]
) -> list[str]:
    """The command that runs `command` in `image` with the rights that a pod has, and `folder` at /data."""
    rights = ["--read-only", "--network=none", "--user=1000:1000", "--cap-drop=all", "--security-opt=no-new-privileges"]
    return [*runner, "run", "--rm", *rights, "--tmpfs=/tmp", f"--volume={folder}:/data", *options, image, *command]


def compare(folder: Path) -> str:
    """What the container wrote to `folder` against what the same stages write here; raises SystemExit on a
    difference."""
    here, params = folder / "here", load_params(Path(__file__).parents[1] / CONFIG, SETTINGS)
    world(params, output=str(here / "world"))
    mine(params, scores=str(folder / "scores"), audioscore=str(folder / "audioscore"), output=str(here / "pairs"))
    captions = sorted(path.relative_to(here) for path in here.glob("world/**/captions.csv"))
    for name in [Path("world/events.json"), *captions]:
        if (folder / name).read_bytes() != (here / name).read_bytes():
            raise SystemExit(f"{name}: the container's differs from ours")
    videos = sorted(folder.glob("world/*/*.mp4"))
    for video in videos:
        with av.open(str(video)) as container:
            if not sum(1 for _ in container.decode(video=0)):
                raise SystemExit(f"{video.name}: no picture")
    theirs, ours = (Dataset.open(str(root / "pairs"), PAIRS).table() for root in (folder, here))
    if not theirs.equals(ours):
        raise SystemExit("pairs: the container's differ from ours")
    return f"{len(captions)} caption tables and {ours.num_rows} pairs equal ours; {len(videos)} videos decode"


def tracking_server_command() -> list[str]:
    """What a pod of the development overlay runs: its init container's command, then the server's, asked by PROBE."""
    deployment = next(yaml.safe_load_all((K8S / "base" / "mlflow.yaml").read_text()))
    pod = deployment["spec"]["template"]["spec"]
    migrate = ["mlflow", "db", "upgrade", "$MLFLOW_BACKEND_STORE_URI"]
    if pod["initContainers"][0]["command"][:3] != migrate[:3]:
        raise SystemExit("k8s/base/mlflow.yaml: the init container does something else")
    probe = ["python", "-c", PROBE, " ".join(STATUSES), *pod["containers"][0]["command"]]
    return ["sh", "-c", f"{' '.join(migrate)} >&2 && {shlex.join(probe)}"]


def main() -> None:
    """Runs both stages in the image, compares, and prints one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", help="the orchestration image, as docker/build named it")
    parser.add_argument("--runner", default="docker", help="docker, podman, or one of them with its global options")
    parser.add_argument("--options", default="", help="more options of the run command, in one text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        write_inputs(folder)
        parameters = [f"--params=/opt/v2a-dpo/{CONFIG}", *(f"--set={setting}" for setting in SETTINGS)]
        inputs = ["--scores=/data/scores", "--audioscore=/data/audioscore"]
        stages = [
            ["v2a-dpo", "world", *parameters, "--output=/data/world"],
            ["v2a-dpo", "mine", *parameters, *inputs, "--output=/data/pairs"],
            ["chmod", "-R", "a+rwX", "/data/world", "/data/pairs"],
        ]
        command = ["sh", "-c", " && ".join(map(shlex.join, stages))]
        options, runner = shlex.split(arguments.options), shlex.split(arguments.runner)
        in_image = partial(container_command, runner, image=arguments.image, folder=folder)
        subprocess.run(in_image(options, command=command), check=True)  # noqa: S603
        print(f"{arguments.image}: {compare(folder)}")
        settings = f"--env-file={K8S / 'overlays' / 'dev' / 'mlflow-server.env'}"
        server = in_image([settings, "--tmpfs=/var/lib/mlflow", *options], command=tracking_server_command())
        statuses = json.loads(subprocess.run(server, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603
        if statuses != STATUSES:
            raise SystemExit(f"the tracking server answered {statuses} instead of {STATUSES}")
        print(f"{arguments.image}: the tracking server answers {statuses}")


if __name__ == "__main__":
    main()
