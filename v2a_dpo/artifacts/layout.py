"""Where one loop keeps its artifacts: the defaults of the command line, of `dvc.yaml` and of `v2a-dpo run`."""

from __future__ import annotations

from dataclasses import dataclass

from v2a_dpo.artifacts.location import join

#: The splits of a loop: candidates of the first are rated, of the second mined for pairs; the last is for the test.
SPLITS = ("annotation", "preference", "test")


@dataclass(frozen=True)
class _Place:
    """A file or folder of every layout, by its name below the root."""

    name: str

    def __get__(self, layout: Layout, owner: type[Layout]) -> str:
        return layout.path(self.name)


@dataclass(frozen=True)
class Layout:
    """The folders of one loop under `root`, a local path or a URI."""

    root: str = "artifacts"

    world = _Place("world")  #: the procedural videos of the tiny profile, one folder per split
    events = _Place("world/events.json")  #: the true events in them, for the simulated rater and the report
    pretrained = _Place("pretrained")  #: the tiny profile's scorers and base generator
    scorers = _Place("pretrained/scorers")  #: the frozen scorers
    base = _Place("pretrained/generator")  #: the generator before alignment
    ratings = _Place("ratings")  #: Good / Medium / Bad of the annotation split's candidates
    audioscore = _Place("audioscore")  #: the trained preference classifier
    pairs = _Place("pairs")  #: the preference pairs
    aligned = _Place("aligned")  #: the generator after alignment
    alignment = _Place("alignment")  #: log, summary and running checkpoint of the alignment
    evaluation = _Place("evaluation")  #: metrics, tables and per-clip numbers
    guidance = _Place("guidance")  #: the guidance curve and its candidates
    decision = _Place("gate.json")  #: whether the aligned model passed the gates against its base
    report = _Place("report/index.html")  #: the HTML report
    plots = _Place("plots")  #: the curves as CSV tables
    registration = _Place("registration.json")  #: the versions registered in MLflow

    def path(self, *parts: str) -> str:
        """A place under the root."""
        return join(self.root, *parts)

    def clips(self, split: str) -> str:
        """The clips of a split."""
        return self.path("clips", split)

    def conditions(self, split: str) -> str:
        """The cached conditions of a split."""
        return self.path("conditions", split)

    def candidates(self, name: str) -> str:
        """The candidates of a split, or of a system on the test split (`test-base`, `test-aligned`)."""
        return self.path("candidates", name)

    def scores(self, name: str) -> str:
        """The scores of the candidates called `name`."""
        return self.path("scores", name)

    @property
    def ancestors(self) -> list[str]:
        """The data sets between the videos and the pairs, the last made first."""
        kinds = (self.scores, self.conditions, self.clips)
        return [self.ratings, *(of(split) for of in kinds for split in ("preference", "annotation"))]
