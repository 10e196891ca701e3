"""Where one loop keeps its artifacts: the defaults of the command line, of `dvc.yaml` and of `v2a-dpo run`."""

from __future__ import annotations

from dataclasses import dataclass

from v2a_dpo.artifacts.location import join

#: The splits of a loop: candidates of the first are rated, of the second mined for pairs; the last is held out.
SPLITS = ("annotation", "preference", "test")


@dataclass(frozen=True)
class Layout:
    """The folders of one loop under `root`, a local path or a URI."""

    root: str = "artifacts"

    def path(self, *parts: str) -> str:
        """A place under the root."""
        return join(self.root, *parts)

    @property
    def world(self) -> str:
        """The procedural videos of the tiny profile, one folder per split."""
        return self.path("world")

    @property
    def events(self) -> str:
        """What really happens in the procedural videos; only the simulated rater reads it."""
        return self.path("world", "events.json")

    @property
    def pretrained(self) -> str:
        """The tiny profile's scorers and base generator."""
        return self.path("pretrained")

    @property
    def scorers(self) -> str:
        """The frozen scorers."""
        return self.path("pretrained", "scorers")

    @property
    def base(self) -> str:
        """The generator before alignment."""
        return self.path("pretrained", "generator")

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
    def ratings(self) -> str:
        """Good / Medium / Bad of the annotation split's candidates."""
        return self.path("ratings")

    @property
    def ancestors(self) -> list[str]:
        """The data sets between the videos and the pairs, the last made first."""
        kinds = (self.scores, self.conditions, self.clips)
        return [self.ratings, *(of(split) for of in kinds for split in ("preference", "annotation"))]

    @property
    def audioscore(self) -> str:
        """The trained preference classifier."""
        return self.path("audioscore")

    @property
    def pairs(self) -> str:
        """The preference pairs."""
        return self.path("pairs")

    @property
    def aligned(self) -> str:
        """The generator after alignment."""
        return self.path("aligned")

    @property
    def alignment(self) -> str:
        """Log, summary and running checkpoint of the alignment."""
        return self.path("alignment")

    @property
    def evaluation(self) -> str:
        """Metrics, tables and per-clip numbers."""
        return self.path("evaluation")

    @property
    def guidance(self) -> str:
        """The guidance curve, and what it was made from."""
        return self.path("guidance")

    @property
    def report(self) -> str:
        """The folder of the HTML report."""
        return self.path("report")

    @property
    def decision(self) -> str:
        """Whether the aligned model passed the gates against its base."""
        return self.path("gate.json")

    @property
    def plots(self) -> str:
        """The curves as CSV tables."""
        return self.path("plots")

    @property
    def registration(self) -> str:
        """What was registered in MLflow."""
        return self.path("registration.json")
