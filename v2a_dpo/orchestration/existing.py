"""Artifacts that a pipeline run uses instead of making its own: of an earlier run, or models of the registry.

No annotation is postponed here: KFP reads the fields of `Sources` and `ClipSet` as types.
"""

import shutil
from typing import NamedTuple

from v2a_dpo.artifacts.folder import new_folder
from v2a_dpo.artifacts.layout import Layout
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.progress import Progress, silent


class Sources(NamedTuple):
    """The places of videos, the events in them (empty: unknown), base generator and scorers."""

    videos: str
    events: str
    generator: str
    scorers: str


def take_existing(location: str) -> str:
    """The `location` if something exists there; raises UserError otherwise."""
    if not exists(location):
        raise UserError("Not found.", where=location, remedy="Start the run at an earlier step.")
    print(f"Existing: {location}", flush=True)
    return location


class ClipSet(NamedTuple):
    """The prefixes of the clips of a split, their conditions and their candidates."""

    clips: str
    conditions: str
    candidates: str


def take_set(*, root: str, split: str) -> ClipSet:
    """The prefixes of a split; raises UserError when one is missing. The test split has no candidates yet."""
    layout = Layout(root)
    candidates = "" if split == "test" else take_existing(layout.candidates(split))
    return ClipSet(take_existing(layout.clips(split)), take_existing(layout.conditions(split)), candidates)


def take_models(*, videos: str, generator: str, scorers: str) -> Sources:
    """The sources of a run on real videos; raises UserError when a model is missing."""
    return Sources(videos, "", take_existing(generator), take_existing(scorers))


def take_loop(*, loop_root: str, generator: str, scorers: str) -> Sources:
    """The sources of the finished loop under `loop_root`; models that are not named are the tiny profile's own.

    Raises UserError when one of its artifacts is missing.
    """
    layout = Layout(loop_root)
    for needed in (layout.ratings, layout.audioscore, layout.scores("test-base")):
        take_existing(needed)
    events = layout.events if exists(layout.events) else ""
    models = take_existing(generator or layout.base), take_existing(scorers or layout.scorers)
    return Sources(layout.world if events else "", events, *models)


def fetch_model(params: Params, *, model: str, output: str, progress: Progress = silent) -> str:
    """The folder of `model`: itself, or `output`, into which the model of an address such as `models:/v2a-dpo@champion`
    is copied.

    Raises UserError when there is no such model.
    """
    if not model.startswith(("models:/", "runs:/")):
        if not exists(join(model, "config.json")):
            raise UserError("This folder holds no model.", where=model, remedy="Name a folder that holds config.json.")
        return model
    from v2a_dpo.serving.packaging import model_folder

    with model_folder(model) as folder, new_folder(output) as target:
        files = sorted(item for item in folder.iterdir() if item.is_file())
        for done, file in enumerate(files, start=1):
            shutil.copyfile(file, target / file.name)
            progress("Fetching", done, len(files))
    return output
