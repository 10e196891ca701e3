"""What Kubeflow is told: every pipeline for every preset, as golden files and as rules that hold for each pod."""

import json
import re
from importlib.metadata import version

import pytest
import yaml

from components.definition import GENERATION, Images
from pipelines.compilation import PIPELINES, build_pipeline, compile_pipeline
from pipelines.presets import PRESETS
from tests.pipelines.compiled import GOLDEN, GOLDEN_PRESET, IMAGES, compiled, documents, executors, tasks
from v2a_dpo.cluster.train_job.settings import ClusterSettings
from v2a_dpo.errors import UserError

pytestmark = pytest.mark.slow

#: The steps that a GPU speeds up; every other one runs on a cheap node.
ON_GPU = ("prepare", "generate", "score", "align", "evaluate", "guidance")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every pipeline compiled for the preset of the golden files."""
    folder = tmp_path_factory.mktemp("compiled")
    return {name: compiled(name, GOLDEN_PRESET, folder) for name in PIPELINES}


@pytest.fixture(scope="module", params=sorted(PRESETS))
def preset(request):
    return PRESETS[request.param]


@pytest.fixture(scope="module")
def pods(preset):
    """(pipeline and executor, component, container, Kubernetes settings, task) of every pod of a preset."""
    found = []
    for name in PIPELINES:
        containers, platform = executors(name, preset.name)
        placed = tasks(name, preset.name)
        assert containers.keys() == platform.keys() == placed.keys()
        for label, executor in containers.items():
            component = re.sub(r"^exec-|(-\d+)+$", "", label)
            found.append((f"{name} {label}", component, executor["container"], platform[label], placed[label]))
    return found


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_compiled_pipeline_is_the_golden_one(files, name):
    golden = GOLDEN / f"{name}-{GOLDEN_PRESET}.yaml"
    assert files[name].read_text() == golden.read_text(), (
        "the compiled pipeline changed; if that is meant, run: python -m tests.pipelines.compiled"
    )


def test_every_pipeline_says_what_it_does(files):
    for name, build in PIPELINES.items():
        assert build.__doc__
        assert build.__doc__.split("\n")[0] in files[name].read_text().replace("\n#", "\n")


def test_gpus_go_to_the_steps_that_use_them(pods, preset):
    for where, component, container, settings, _ in pods:
        accelerator = container.get("resources", {}).get("accelerator")
        if preset.name == "cpu" or component not in ON_GPU:
            assert accelerator is None, where
            assert "nodeSelector" not in settings, where
        else:
            assert accelerator["resourceType"] == "nvidia.com/gpu", where
            assert accelerator["resourceCount"] == "1", where
            assert settings["nodeSelector"]["labels"] == dict(preset.node_selector), where
            assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in settings["tolerations"]
            assert settings["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "v2a-dpo"}, where


def test_the_alignment_job_gets_the_nodes_of_the_preset():
    task = tasks("v2a-dpo", "gpu-large")["exec-align-on-cluster"]
    values = task["inputs"]["parameters"]["cluster"]["runtimeValue"]["constant"]
    preset = PRESETS["gpu-large"]
    settings = ClusterSettings.of(values)
    assert settings.image == IMAGES.reference(GENERATION)
    assert (settings.num_nodes, settings.processes_per_node, settings.gpus_per_node) == (1, 8, 8)
    assert (settings.cpu, settings.memory) == ("96", "768Gi")
    assert (settings.node_selector, settings.queue) == (dict(preset.node_selector), "v2a-dpo")


def test_every_pod_has_shared_memory_and_writable_folders(pods):
    for where, _, _, settings, _ in pods:
        mounts = {mount["mountPath"]: mount for mount in settings["emptyDirMounts"]}
        assert mounts.keys() == {"/dev/shm", "/tmp", "/home/v2a"}, where
        assert mounts["/dev/shm"]["medium"] == "Memory", where
        assert all(mount["sizeLimit"] for mount in mounts.values()), where


def test_secrets_come_by_reference_and_only_to_those_who_need_them(pods):
    for where, component, container, settings, _ in pods:
        secrets = {item["secretName"] for item in settings["secretAsEnv"]}
        expected = {"v2a-dpo-s3"}
        if component in ("register", "promote", "fetch-model"):
            expected.add("v2a-dpo-mlflow")
        if component == "summarize-run":
            expected.add("v2a-dpo-notification")
        assert secrets == expected, where
        variables = {item["name"] for item in container.get("env", [])}
        assert variables <= {"WEIGHTS_DIR"}, where


def test_every_pod_runs_as_the_image_user_and_not_as_root(pods):
    for where, _, _, settings, _ in pods:
        assert settings["securityContext"] == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}, where


def test_every_task_is_retried_with_growing_pauses_ends_in_time_and_leaves_caching_to_us(pods, preset):
    for where, _, _, settings, task in pods:
        assert task["retryPolicy"]["maxRetryCount"] == preset.retry.times, where
        assert task["retryPolicy"]["backoffFactor"] == 2.0, where
        assert int(settings["activeDeadlineSeconds"]) >= 3600, where
        assert not task["cachingOptions"].get("enableCache"), where


def test_nothing_is_installed_when_a_pod_starts(pods):
    for where, _, container, _, _ in pods:
        assert not re.search(r"\bpip\b|ensurepip|apt-get", " ".join(container["command"])), where


def test_images_are_ours_and_named_by_version(pods):
    for where, _, container, _, _ in pods:
        name, _, tag = container["image"].rpartition(":")
        assert name.startswith(f"{IMAGES.registry}/v2a-dpo-"), where
        assert tag == IMAGES.tag, where


def test_shards_are_made_by_a_limited_number_of_pods_at_a_time(preset):
    limits = re.findall(r'"parallelismLimit": (\d+)', json.dumps(documents("v2a-dpo", preset.name)))
    assert limits
    assert set(limits) == {str(preset.parallelism)}


def test_the_images_follow_the_environment(monkeypatch):
    monkeypatch.setenv("V2A_DPO_IMAGE_REGISTRY", "registry.example/mine/")
    monkeypatch.setenv("V2A_DPO_IMAGE_TAG", "7")
    assert Images().reference("v2a-dpo-scoring") == "registry.example/mine/v2a-dpo-scoring:7"
    monkeypatch.delenv("V2A_DPO_IMAGE_REGISTRY")
    monkeypatch.delenv("V2A_DPO_IMAGE_TAG")
    assert Images().reference("v2a-dpo-scoring") == f"ghcr.io/v2a-dpo/v2a-dpo-scoring:{version('v2a-dpo')}"
    with pytest.raises(ValueError, match="by version"):
        Images(tag="latest")


@pytest.mark.parametrize(("name", "preset"), [("full", "gpu"), ("v2a-dpo", "tpu")])
def test_an_unknown_name_is_refused_with_the_known_ones(name, preset):
    with pytest.raises(UserError, match="Choose among"):
        build_pipeline(name, preset=preset)


def test_manifests_for_gitops_hold_the_same_pipeline(tmp_path):
    path = compile_pipeline(
        "sweep", output=tmp_path / "sweep.yaml", preset="cpu", images=IMAGES, manifests=True, namespace="loops"
    )
    resources = list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))
    assert [document["kind"] for document in resources] == ["Pipeline", "PipelineVersion"]
    assert {document["metadata"]["namespace"] for document in resources} == {"loops"}
    assert resources[1]["metadata"]["name"] == "sweep-cpu-1-2-3"
    plain, _ = documents("sweep", "cpu")
    assert resources[1]["spec"]["pipelineSpec"]["root"] == plain["root"]
