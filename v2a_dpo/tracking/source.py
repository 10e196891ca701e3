"""The versions of the code and data in the working folder, for the tags of a run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml


def source_tags() -> dict[str, str]:
    """The git commit of the working folder and whether files differ from it; empty outside a repository."""
    git = shutil.which("git")
    if git is None:
        return {}
    commit = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    if commit.returncode != 0:
        return {}
    status = [git, "status", "--porcelain", "--untracked-files=no"]
    changed = subprocess.run(status, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return {"mlflow.source.git.commit": commit.stdout.strip(), "git.modified": str(bool(changed)).lower()}


def dvc_hashes(lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Absolute path -> DVC's hash of the outputs of its stages; empty without a lock file."""
    if not lock.is_file():
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    folder = lock.absolute().parent
    return {
        str(folder / output["path"]): output[output["hash"]]
        for stage in stages.values()
        for output in stage.get("outs", [])
        if output.get("hash") in output
    }
