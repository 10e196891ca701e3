"""Validates a pipeline run's inputs before any GPU pod starts."""

from __future__ import annotations

from typing import Literal, get_args

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.artifacts.json_files import write_json
from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.params import values_of
from v2a_dpo.progress import Progress, silent

#: The first input of a run: videos, or the candidates or pairs of an earlier run.
StartAt = Literal["videos", "candidates", "pairs"]
#: Under the root: the run's inputs.
REQUEST_FILE = "run-request.json"


def check_run(
    params: Params,
    *,
    root: str,
    start_at: str = "videos",
    data_root: str | None = None,
    videos: str | None = None,
    generator: str | None = None,
    scorers: str | None = None,
    ratings_csv: str | None = None,
    to_be_rated: bool = False,
    progress: Progress = silent,
) -> str:
    """The prefix of clips, conditions and candidates: `root`, or `data_root` for a run that starts from existing ones.

    Writes the inputs to `run-request.json` under `root`. A run whose candidates are `to_be_rated` needs no ratings yet.
    Raises UserError that names a missing or wrong input.
    """
    if root.endswith("/") or (data_root or "").endswith("/"):
        raise UserError("The prefix ends with a slash.", where="root, data_root", remedy="Leave the slash out.")
    if start_at not in get_args(StartAt):
        raise UserError(
            f"A run cannot start at {start_at!r}.", where="start_at", remedy=f"Use {', '.join(get_args(StartAt))}."
        )
    if start_at == "videos" and data_root not in (None, root):
        raise UserError(
            "A run that starts at videos makes its own data.",
            where="data_root",
            remedy="Leave data_root out, or set start_at to candidates or pairs.",
        )
    _check_sources(params, videos=videos, generator=generator, scorers=scorers, start_at=start_at)
    if start_at != "pairs" and videos is not None and ratings_csv is None and not to_be_rated:
        raise UserError(
            "The candidates have no ratings: the simulated rater can only rate the tiny profile's own videos.",
            where="ratings_csv",
            remedy="Make the candidates with the pipeline `candidates`, have people rate them, then run "
            "this with their CSV file.",
        )
    if ratings_csv is not None and not exists(ratings_csv):
        raise UserError("This file of ratings does not exist.", where=ratings_csv, remedy="Check ratings_csv.")
    data = data_root or root
    if start_at != "videos":
        _check_data(Layout(data), pairs=start_at == "pairs")
    request = {
        "params": values_of(params),
        "start_at": start_at,
        "data_root": data,
        "videos": videos,
        "generator": generator,
        "scorers": scorers,
        "ratings_csv": ratings_csv,
    }
    write_json(join(root, REQUEST_FILE), request)
    progress("Checking", 1, 1)
    return data


def _check_sources(
    params: Params, *, videos: str | None, generator: str | None, scorers: str | None, start_at: str
) -> None:
    """Videos and models come together; only the tiny profile, which makes its own, can run without them."""
    sources = {"videos": videos, "generator": generator, "scorers": scorers}
    missing = [name for name, value in sources.items() if value is None]
    if missing and (len(missing) < len(sources) or params.generator.family != "tiny"):
        raise UserError(
            f"Missing inputs: {', '.join(missing)}.",
            where=", ".join(missing),
            remedy="Name all of videos, generator and scorers, or none of them with the tiny profile.",
        )
    needed = [value for name, value in sources.items() if value is not None and name != "videos"]
    if videos is not None and start_at == "videos":
        needed += [join(videos, split, "captions.csv") for split in SPLITS]
    for location in needed:
        if not exists(location):
            raise UserError("Not found.", where=location, remedy="Check the run's arguments.")


def _check_data(layout: Layout, *, pairs: bool) -> None:
    """The data sets that an earlier run must have finished."""
    for split in SPLITS:
        Dataset.open(layout.clips(split), "clips")
        Dataset.open(layout.conditions(split), "conditions")
        if split != "test":
            Dataset.open(layout.candidates(split), "candidates")
    if pairs:
        Dataset.open(layout.pairs, "pairs")
        Dataset.open(layout.ratings, "ratings")
