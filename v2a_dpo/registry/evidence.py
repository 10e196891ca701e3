"""The evidence of a registered version, for later comparisons: files of a run, one folder per role.

| file | content |
| --- | --- |
| `model-card.md` | the description of the model |
| `metrics.json`, `summary.json` | the evaluation against the base, and its settings |
| `clips.safetensors` | the metrics of every test clip, for a paired comparison with another version |
| `gate.json` | the gates' decision against the base, where it was made |
| `lineage.json` | the data, models and code behind the model |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.metrics import Comparison
from v2a_dpo.evaluation.sampling import SETTINGS as SAMPLING
from v2a_dpo.evaluation.systems import SystemClips
from v2a_dpo.registry.lineage import Lineage
from v2a_dpo.registry.versions import Registry, StoredVersion, open_registry
from v2a_dpo.tracking.failures import failures_reported
from v2a_dpo.tracking.run import TrackedRun

#: Tag of a version: the run with its evidence.
EVIDENCE_TAG = "v2a_dpo.evidence_run"
TEST_SET_TAG = "test_set"
FOLDER = "evidence"
CARD, CLIPS_FILE, GATE, LINEAGE = "model-card.md", "clips.safetensors", "gate.json", "lineage.json"
#: Settings of an evaluation, and their display names, that must agree before two models can be compared; those of their
#: sampling come on top.
_SETTINGS = {"test_set": "test set", "scorers_fingerprint": "scorers", "duration_s": "duration"}


@dataclass(frozen=True)
class Evidence:
    """A version's evaluation: against its base, its settings, and its clips, in the version's role."""

    role: str
    comparison: Comparison
    summary: dict[str, Any]
    evaluated: SystemClips

    @property
    def settings(self) -> dict[str, Any]:
        """What must agree with another version's: title -> value."""
        sampling = self.summary["sampling"][self.role]
        return {title: self.summary[key] for key, title in _SETTINGS.items()} | {
            title: sampling[key] for key, title in SAMPLING.items()
        }

    @property
    def failed(self) -> frozenset[str]:
        """The clips on which this version made no usable sound in its evaluation, although another system did."""
        return frozenset(self.summary["failed"][self.role])


def log_evidence(run: TrackedRun, role: str, texts: Mapping[str, str], evaluated: SystemClips) -> None:
    """Keeps `texts` (file name -> content) and the evaluated clips with `run` as the evidence of `role`."""
    for name, content in texts.items():
        run.log_text(content, f"{FOLDER}/{role}/{name}")
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / CLIPS_FILE
        evaluated.save(file)
        run.log_file(file, f"{FOLDER}/{role}")


def download_evidence(registry: Registry, version: StoredVersion, folder: Path) -> Path:
    """The local folder with the evidence of `version`, fetched into `folder`. Raises UserError when it has none."""
    if EVIDENCE_TAG not in version.tags:
        what = f"Version {version.version} of {registry.name} was registered without its evaluation."
        raise UserError(what, where="registry", remedy="Register it again with `v2a-dpo register`.")
    client, run_id = registry.tracking.client, version.tags[EVIDENCE_TAG]
    return Path(client.download_artifacts(run_id, f"{FOLDER}/{version.role}", str(folder)))


def read_evidence(registry: Registry, version: StoredVersion) -> Evidence:
    """The evaluation of `version`."""
    with TemporaryDirectory() as temporary:
        folder = download_evidence(registry, version, Path(temporary))
        return Evidence(
            version.role,
            EvaluationFolder(str(folder)).comparison(),
            EvaluationFolder(str(folder)).summary(),
            SystemClips.load(folder / CLIPS_FILE),
        )


def lineage_of(params: Params, version: str) -> tuple[str, Lineage]:
    """A title for `version` (a number or an alias), and its lineage as recorded at its registration."""
    registry = open_registry(params)
    with failures_reported(registry.tracking.uri), TemporaryDirectory() as temporary:
        stored = registry.version(version)
        folder = download_evidence(registry, stored, Path(temporary))
        lineage = Lineage.from_text((folder / LINEAGE).read_text(encoding="utf-8"))
    return f"{registry.name} version {stored.version} ({stored.role})", lineage
