"""The parameters of every stage: one model a section of `params.yaml`; unknown keys are errors.

Defaults are the paper's numbers where it gives one (section 3.1 unless a comment says otherwise), and choices of ours
elsewhere, named in docs/paper.md; `configs/tiny.yaml` overrides what a small world needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from v2a_dpo.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the parameters: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorConfig(Section):
    """Which generator is aligned."""

    family: Literal["tiny", "mmaudio"] = "mmaudio"
    #: The checkpoint's name in the family's catalog, such as `large_44k`.
    variant: str = "large_44k"
    device: str = Field("auto", description="cpu, cuda, cuda:1, or auto")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of matrix products in encoders, sampling and alignment; weights stay float32"
    )


class WorldConfig(Section):
    """The procedural data set of the tiny profile; clips a split."""

    annotation_clips: Count = 96
    preference_clips: Count = 448
    test_clips: Count = 256
    training_clips: Count = Field(1600, description="clips that pre-training renders in memory")


class PretrainConfig(Section):
    """Pre-training of the tiny scorers and of the tiny generator."""

    scorer_steps: Count = 350
    generator_steps: Count = 700
    encoder_steps: Count = Field(200, description="steps of the generator's own encoders, before it")
    batch_size: Count = 32
    learning_rate: Positive = 2e-3


class VggsoundConfig(Section):
    """The paper's splits of VGGSound: 2K videos to rate (2.1), 50K to mine (2.2), MMAudio's test list (3.1)."""

    annotation_clips: Count = Field(2000, description="clips whose candidates people rate")
    preference_clips: Count = Field(50_000, description="clips whose candidates are mined for pairs")
    annotation_share: Fraction = Field(
        0.0625, description="share of the training videos that only the annotation split may use; fixes who is where"
    )
    seed: int = Field(0, ge=0, description="of the splits alone: other seeds of training compare on the same clips")


class PrepareConfig(Section):
    """From videos to clips and cached conditions."""

    duration_s: Positive = Field(8.0, description="seconds of video a clip covers")
    clips_per_shard: Count = 256
    clips_per_batch: Count = Field(8, description="clips that go through the encoders at once")
    workers: int = Field(0, ge=0, description="decoding processes; 0 decodes in the main one")


class GenerateConfig(Section):
    """Sampling of candidates."""

    candidates: Count = Field(5, description="N, candidates a clip")
    steps: Count = Field(25, description="Euler steps; the paper gives none, and this is MMAudio's own default")
    guidance_scale: Positive = 4.5
    use_text: bool = Field(
        True, description="False samples every clip as if it had no prompt: the starred rows of the paper's Table 1"
    )
    clips_per_batch: Count | Literal["auto"] = Field(
        "auto",
        description="clips sampled at once; auto goes by the device and its free memory; halved when it runs out",
    )
    compile: bool | Literal["auto"] = Field(
        "auto", description="compile the networks, on GPUs with CUDA graphs; auto does so on GPUs only"
    )


class ScoreConfig(Section):
    """The five scores of a candidate."""

    scorers: Literal["official", "tiny"] = "official"
    clips_per_batch: Count = 16
    pesq_workers: Count = Field(2, description="processes; a crash inside PESQ costs one score, not the job")


class AnnotateConfig(Section):
    """The simulated rater of the tiny profile; human ratings come by import instead."""

    sigma: float = Field(
        0.06, ge=0, description="standard deviation of the rater's judgement noise, in units of quality"
    )
    flips: Fraction = Field(0.05, description="share of labels replaced by another one")


class AudioScoreConfig(Section):
    """The preference classifier: Linear - ReLU - Linear - softmax over five standardised scores (paper 2.1)."""

    hidden_size: Count = 32
    learning_rate: Positive = 5e-3
    weight_decay: float = Field(0.05, ge=0)
    max_steps: Count = Field(400, description="full-batch steps; early stopping usually ends sooner")
    patience: Count = Field(40, description="steps without a better held-out loss before stopping")
    held_out: Fraction = Field(0.25, description="share of clips kept out of training")
    missing_indicators: bool = Field(
        False, description="one more input a score that says it was missing (an extension)"
    )


class Threshold(Section):
    """Where the curriculum splits: an absolute complexity score, or the share of all pairs that is `hard`."""

    value: float | None = Field(None, description="pairs whose complexity score exceeds it are easy")
    quantile: Fraction | None = Field(
        None, description="share of all pairs, rated ones counted, that is hard; never less than the rated pairs' share"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Threshold:
        if (self.value is None) == (self.quantile is None):
            raise ValueError("give exactly one of `value` (paper: 0.7) and `quantile`")
        return self


class MineConfig(Section):
    """Best-against-worst pairs (paper 2.2) and their split into the phases of the curriculum (2.3)."""

    min_margin: Fraction = Field(0.0, description="least P(Good) difference between winner and loser")
    threshold: Threshold = Threshold(value=0.7)
    human_pairs: bool = Field(True, description="add pairs of rated clips, with complexity 0")
    allow_weak_audioscore: bool = Field(
        False, description="mine even by an AudioScore no better on held-out clips than always the commonest label"
    )


class AlignConfig(Section):
    """Curriculum Flow-DPO (paper 2.3 and Eq. 5, corrected; errors are means over latent dimensions and frames)."""

    beta: Positive = 600.0
    learning_rate: Positive = 5e-6
    steps: Count = 12_000
    batch_size: Count = Field(8, description="pairs a step")
    warmup_steps: int = Field(1000, ge=0, description="steps of the linear rise of the learning rate")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW; the paper gives none")
    gradient_clip: Positive = Field(1.0, description="largest norm of the gradient; the paper gives none")
    curriculum: bool = Field(True, description="easy pairs first; False shuffles all pairs")
    held_out: Fraction = Field(
        0.0,
        description="share of clips whose pairs only measure implicit accuracy; 0 trains on all pairs, as the paper",
    )
    validate_every: Count = 250
    checkpoint_every: Count = 500


#: Without any effect a rule "must improve" passes in 2.5% of evaluations at confidence 0.95; with 200 resamples in
#: 3.0%, with 20 in 7.8%.
Resamples = Annotated[int, Field(ge=200)]
#: What two systems' candidates must have in common.
SamplingKey = Literal["clips", "conditions", "seed", "steps", "guidance_scale", "use_text", "sample_rate"]


class EvaluateConfig(Section):
    """Metrics with bootstrap intervals over clips."""

    bootstrap_samples: Resamples = 2000
    fd_bootstrap_samples: Resamples = Field(500, description="resamples for FD, each of which costs an eigenproblem")
    confidence: float = Field(
        0.95, ge=0.8, lt=1, description="of every interval; below 0.8 more than one rule in ten would pass by chance"
    )
    guidance_curve: list[Positive] = Field(
        [1.0, 2.0, 4.5], description="guidance scales at which both models are compared"
    )
    curve_clips: Count = Field(64, description="clips in each point of the guidance curve")
    min_paired: Fraction = Field(0.95, description="least share of the test clips that must have everything")
    allow_different: list[SamplingKey] = Field(
        [], description="what may differ between the candidates of base and aligned; every table then names it"
    )

    @model_validator(mode="after")
    def _ends_are_estimated(self) -> EvaluateConfig:
        """An end of an interval is a quantile: with fewer than five resamples beyond it, it is little more than
        chance."""
        fewest = math.ceil(round(10 / (1 - self.confidence), 6))
        if min(self.bootstrap_samples, self.fd_bootstrap_samples) < fewest:
            raise ValueError(
                f"intervals of confidence {self.confidence:g} need {fewest} resamples or more: fewer than five would lie "
                "beyond each end (bootstrap_samples, fd_bootstrap_samples)"
            )
        return self


class ReportConfig(Section):
    """The static HTML report."""

    gallery_clips: Count = 8


MetricKey = Literal[
    "fd_passt",
    "kl_panns",
    "kl_passt",
    "inception_score",
    "ib_score",
    "desync_s",
    "clap_score",
    "rater_quality",
]
#: A distance in the metric's own unit, or a share of the reference's value such as `5%`.
Tolerance = Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")] | Annotated[float, Field(ge=0)]


class GatesConfig(Section):
    """What a model must show, on the same clips as the model it replaces, before it may be released.

    Judged by the paired intervals of the evaluation, at its level of confidence: what the report shows is what decides.
    """

    min_clips: Count = Field(100, description="fewer held-out clips with the metric in question decide nothing")
    max_more_failures: Fraction = Field(
        0.005, description="how much larger the share of clips without usable sound may be than the reference's"
    )
    must_improve: list[MetricKey] = Field(
        ["ib_score"], description="the whole interval of the difference must be on the better side of zero"
    )
    must_not_worsen: dict[MetricKey, Tolerance] = Field(
        {"fd_passt": "5%", "kl_panns": "5%", "inception_score": "5%", "desync_s": "5%"},
        description="the interval's worse end may be this far on the worse side",
    )


class RegisterConfig(Section):
    """Where runs and models go in MLflow."""

    experiment: str = "v2a-dpo"
    model_name: str = "v2a-dpo"


class OrchestrationConfig(Section):
    """How a pipeline run on the cluster divides its work."""

    shards_per_task: Count = Field(4, description="largest number of shards that one pod of a fan-out makes")


class ServeConfig(Section):
    """What a server of a model takes from strangers."""

    max_duration_s: float = Field(30.0, ge=1, description="seconds of sound a request may ask for")
    max_guidance_scale: float = Field(20.0, ge=1)
    max_videos: Count = Field(4, description="videos a request")
    max_upload_mib: Positive = Field(64.0, description="MiB a video")
    max_megapixels: Positive = Field(9.0, description="millions of pixels of a video's picture; 4K has 8.3")
    max_waiting: int = Field(8, ge=0, description="requests that wait for their turn; one more is refused")
    video_root: str = Field("", description="folder whose videos requests may name by path; none where empty")


class DvcSplit(Section):
    """Where the clips of a split come from."""

    videos: str = Field(description="folder or s3:// prefix")
    captions: str = Field(description="the caption table")
    watch: str = Field(description="what DVC hashes to see a change: the folder, or the table where videos are many")


class DvcConfig(Section):
    """What `dvc.yaml` starts from, and which of its stages there are; no stage reads this section."""

    tiny: list[Literal["tiny"]] = Field(
        [], description="[tiny]: videos, models and ratings are made by the loop itself"
    )
    vggsound: dict[str, dict[str, str | list[str]]] = Field(
        {}, description="name -> options of `v2a-dpo vggsound`, all but --output"
    )
    ratings: dict[str, str] = Field({}, description="name -> the CSV file of people's ratings")
    generator: str = Field(description="folder of the base generator")
    weights: str = Field(description="folder of the frozen weights that the generator uses beside its own: WEIGHTS_DIR")
    scorers: str = Field(description="folder of the scorers")
    splits: dict[Literal["annotation", "preference", "test"], DvcSplit]


class Params(Section):
    """All sections of `params.yaml`."""

    profile: str = "mmaudio-large-44k"
    seed: int = Field(0, ge=0, description="root of all random numbers")
    keep_artifacts: bool = Field(
        False, description="keep finished work that other code made, and record that, instead of making it again"
    )
    generator: GeneratorConfig = GeneratorConfig()
    world: WorldConfig = WorldConfig()
    pretrain: PretrainConfig = PretrainConfig()
    vggsound: VggsoundConfig = VggsoundConfig()
    prepare: PrepareConfig = PrepareConfig()
    generate: GenerateConfig = GenerateConfig()
    score: ScoreConfig = ScoreConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    audioscore: AudioScoreConfig = AudioScoreConfig()
    mine: MineConfig = MineConfig()
    align: AlignConfig = AlignConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    gates: GatesConfig = GatesConfig()
    register_: RegisterConfig = Field(RegisterConfig(), alias="register")
    dvc: DvcConfig | None = None
    orchestration: OrchestrationConfig = OrchestrationConfig()
    serve: ServeConfig = ServeConfig()


def load_params(path: str | Path, overrides: Sequence[str] = ()) -> Params:
    """The parameters in the YAML file `path`, with `overrides` such as `align.beta=200` put on top.

    Raises UserError that names each wrong field.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        remedy = "Start from a file in configs/."
        raise UserError(f"The parameters cannot be read: {error}", where=str(path), remedy=remedy) from error
    for override in overrides:
        _override(content, override)
    return params_from(content, where=str(path))


def params_from(content: Mapping[str, Any], *, where: str = "the parameters") -> Params:
    """The parameters with these values, as YAML or JSON gives them; raises UserError that names each wrong field.

    Workflow engines hand on every number as a double: 3.0 counts as 3 where a whole number is meant.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        remedy = "See v2a_dpo/config.py for every field."
        raise UserError(f"Wrong parameters: {fields}.", where=where, remedy=remedy) from error


def values_of(params: Params) -> dict[str, Any]:
    """The parameters as JSON values for `params_from`; fields without a value are left out: not every engine knows null."""
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def override_params(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of the parameters' values with `overrides` such as `align.beta=200` put on top."""
    changed: dict[str, Any] = deepcopy(dict(content))
    for override in overrides:
        _override(changed, override)
    return changed


def _override(content: dict[str, Any], override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator:
        raise UserError(f"{override!r} sets nothing.", where="--set", remedy="Write it as section.field=value.")
    *sections, field = name.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[field] = yaml.safe_load(value)
