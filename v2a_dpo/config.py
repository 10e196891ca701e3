"""The parameters of every stage: one model per section of `params.yaml`; unknown keys are errors.

Defaults are the paper's numbers where it gives one (mostly section 3.1), and our choices elsewhere. The descriptions
name the source; docs/configuration.md is generated from them. Presets in `configs/` hold only the differences.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the parameters: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorConfig(Section):
    """The generator that is aligned."""

    family: Literal["tiny", "mmaudio"] = Field(
        "mmaudio", description="architecture; the paper aligns MMAudio and Frieren (3.1)"
    )
    variant: str = Field(
        "large_44k", description="checkpoint's name in the family's catalog; the paper's is MMAudio-L-44.1kHz (3.1)"
    )
    device: str = Field("auto", description="cpu, cuda, cuda:1, or auto: the GPU if there is one")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of matrix products in encoders, sampling and alignment; weights stay float32; paper: none given",
    )


class WorldConfig(Section):
    """The procedural data set of the tiny profile; not in the paper."""

    annotation_clips: Count = Field(96, description="clips of the annotation split")
    preference_clips: Count = Field(448, description="clips of the preference split")
    test_clips: Count = Field(256, description="clips of the test split")
    training_clips: Count = Field(1600, description="clips that pre-training renders in memory")


class PretrainConfig(Section):
    """Pre-training of the tiny scorers and of the tiny generator; not in the paper."""

    scorer_steps: Count = Field(350, description="training steps of each scorer")
    generator_steps: Count = Field(700, description="training steps of the generator")
    encoder_steps: Count = Field(200, description="training steps of the generator's own encoders, before it")
    batch_size: Count = Field(32, description="clips per step")
    learning_rate: Positive = Field(2e-3, description="peak learning rate of AdamW")


class VggsoundConfig(Section):
    """The paper's splits of VGGSound: 2K videos to rate (2.1), 50K to mine (2.2), MMAudio's test list (3.1)."""

    annotation_clips: Count = Field(2000, description="clips whose candidates people rate (paper 2.1)")
    preference_clips: Count = Field(50_000, description="clips whose candidates are mined for pairs (paper 2.2)")
    annotation_share: Fraction = Field(
        0.0625,
        description="share of the training videos reserved for the annotation split; the paper gives none. Together "
        "with `seed` it assigns every video to a split",
    )
    seed: int = Field(
        0, ge=0, description="of the splits alone, so that training with other seeds is compared on the same clips"
    )


class PrepareConfig(Section):
    """From videos to clips and cached conditions."""

    duration_s: Positive = Field(8.0, description="duration of a clip in seconds; MMAudio's own, the paper gives none")
    clips_per_shard: Count = Field(256, description="clips per Parquet shard, the unit of resuming and of fan-out")
    clips_per_batch: Count = Field(8, description="clips per batch of the encoders")
    workers: int = Field(0, ge=0, description="decoding processes; 0 decodes in the main process")


class GenerateConfig(Section):
    """Sampling of candidates."""

    candidates: Count = Field(5, description="N, candidates per clip (paper 3.1)")
    steps: Count = Field(25, description="Euler steps; the paper gives none, and this is MMAudio's own default")
    guidance_scale: Positive = Field(4.5, description="scale of classifier-free guidance; 1 is unguided (paper 3.1)")
    use_text: bool = Field(
        True, description="false samples every clip without its prompt: the starred rows of the paper's Table 1"
    )
    clips_per_batch: Count | Literal["auto"] = Field(
        "auto",
        description="clips per batch; auto uses the device and its free memory; halved when memory runs out",
    )
    compile: bool | Literal["auto"] = Field(
        "auto", description="compile the networks, on GPUs with CUDA graphs; auto does so on GPUs only"
    )


class ScoreConfig(Section):
    """The five scores of a candidate (paper 2.1)."""

    scorers: Literal["official", "tiny"] = Field("official", description="set of scoring networks")
    clips_per_batch: Count = Field(16, description="clips per batch of the scoring networks")
    pesq_workers: Count = Field(2, description="processes; a crash inside PESQ costs one score, not the job")


class AnnotateConfig(Section):
    """The simulated rater of the tiny profile, not in the paper; human ratings are imported instead."""

    sigma: float = Field(
        0.06, ge=0, description="standard deviation of the rater's judgement noise, in units of quality"
    )
    flips: Fraction = Field(0.05, description="share of labels replaced by another one")


class AudioScoreConfig(Section):
    """The preference classifier: Linear - ReLU - Linear - softmax over five standardised scores (paper 2.1).

    The paper gives no number for its training.
    """

    hidden_size: Count = Field(32, description="hidden units; the paper gives none")
    learning_rate: Positive = Field(5e-3, description="of AdamW; the paper gives none")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW; the paper gives none")
    max_steps: Count = Field(400, description="full-batch steps; early stopping usually ends sooner")
    patience: Count = Field(40, description="steps without a better validation loss before stopping")
    validation_share: Fraction = Field(
        0.25, description="share of the rated clips kept out of training, for validation"
    )
    missing_indicators: bool = Field(
        False, description="one additional 0/1 input per score that marks it as missing (not in the paper)"
    )


class Threshold(Section):
    """The curriculum's threshold: an absolute complexity score, or the share of all pairs that is `hard`."""

    value: float | None = Field(
        None,
        description="pairs whose complexity score exceeds it are easy; mined pairs have 0 to 1 (paper 3.1: 0.7)",
    )
    quantile: Fraction | None = Field(
        None,
        description="instead of `value`: share of all pairs, rated ones included, that is hard; never less than the "
        "rated pairs' share (not in the paper)",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Threshold:
        if (self.value is None) == (self.quantile is None):
            raise ValueError("give exactly one of `value` (paper: 0.7) and `quantile`")
        return self


class MineConfig(Section):
    """Best-against-worst pairs (paper 2.2) and their split into the phases of the curriculum (2.3)."""

    min_margin: Fraction = Field(
        0.0, description="smallest P(Good) difference between winner and loser; the paper gives none"
    )
    threshold: Threshold = Field(Threshold(value=0.7), description="splits easy from hard pairs (paper 2.3)")
    human_pairs: bool = Field(True, description="add pairs of rated clips, with complexity 0 (paper 2.3)")
    allow_weak_audioscore: bool = Field(
        False,
        description="mine even with an AudioScore no better on validation clips than always the most common label",
    )


class AlignConfig(Section):
    """Curriculum Flow-DPO (paper 2.3 and Eq. 5, corrected; errors are means over latent dimensions and frames)."""

    beta: Positive = Field(
        600.0,
        description="strength of the KL constraint: smaller values let the model move further (paper 3.1)",
    )
    learning_rate: Positive = Field(5e-6, description="of AdamW, constant after the warm-up (paper 3.1)")
    steps: Count = Field(12_000, description="optimizer steps in both phases together (paper 3.1)")
    batch_size: Count = Field(8, description="pairs per step, over all processes (paper 3.1)")
    warmup_steps: int = Field(1000, ge=0, description="steps of the linear rise of the learning rate (paper 3.1)")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW; the paper gives none")
    gradient_clip: Positive = Field(1.0, description="largest norm of the gradient; the paper gives none")
    curriculum: bool = Field(True, description="easy pairs first (paper 2.3); false shuffles all pairs")
    validation_share: Fraction = Field(
        0.0,
        description="share of clips whose pairs are kept out of training and only measure implicit accuracy; 0 trains "
        "on all pairs, as in the paper",
    )
    validate_every: Count = Field(250, description="steps between measurements on the pairs that are kept out")
    checkpoint_every: Count = Field(500, description="steps between checkpoints")


#: Without any effect a rule "must improve" passes in 2.5% of evaluations at confidence 0.95; with 200 resamples in
#: 3.0%, with 20 in 7.8%.
Resamples = Annotated[int, Field(ge=200)]
#: Settings that two systems' candidates must share.
SamplingKey = Literal["clips", "conditions", "seed", "steps", "guidance_scale", "use_text", "sample_rate"]


class EvaluateConfig(Section):
    """Metrics with bootstrap intervals over clips; the paper's tables give no intervals."""

    bootstrap_samples: Resamples = Field(2000, description="bootstrap resamples of every metric but FD")
    fd_bootstrap_samples: Resamples = Field(500, description="resamples for FD, each of which costs an eigenproblem")
    confidence: float = Field(
        0.95, ge=0.8, lt=1, description="of every interval; below 0.8 more than one rule in ten would pass by chance"
    )
    guidance_curve: list[Positive] = Field(
        [1.0, 2.0, 4.5], description="guidance scales at which both models are compared (4.5: paper 3.1)"
    )
    curve_clips: Count = Field(64, description="clips per point of the guidance curve")
    min_paired: Fraction = Field(
        0.95, description="smallest share of the test clips with usable sound and features in both systems"
    )
    allow_different: list[SamplingKey] = Field(
        [], description="settings that may differ between the candidates of base and aligned; every table names them"
    )

    @model_validator(mode="after")
    def _ends_are_estimated(self) -> EvaluateConfig:
        """An end of an interval is a quantile: with fewer than five resamples beyond it, it is little more than
        chance."""
        fewest = math.ceil(round(10 / (1 - self.confidence), 6))
        if min(self.bootstrap_samples, self.fd_bootstrap_samples) < fewest:
            raise ValueError(
                f"intervals of confidence {self.confidence:g} need {fewest} resamples or more: fewer than five "
                "would lie beyond each end (bootstrap_samples, fd_bootstrap_samples)"
            )
        return self


class ReportConfig(Section):
    """The static HTML report."""

    gallery_clips: Count = Field(
        8, description="clips in the gallery: the most improved ones, the last the most degraded"
    )


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
    """What a model must show, on the same clips as the model it replaces, before it may be released; not in the paper.

    Decided by the paired intervals of the evaluation, at its level of confidence: the numbers that the report shows.
    """

    min_clips: Count = Field(100, description="smallest number of test clips with the metric of a rule")
    max_more_failures: Fraction = Field(
        0.005,
        description="largest excess of the share of clips without usable sound over the reference's",
    )
    must_improve: list[MetricKey] = Field(
        ["ib_score"], description="the whole interval of the difference must be on the better side of zero"
    )
    must_not_worsen: dict[MetricKey, Tolerance] = Field(
        {"fd_passt": "5%", "kl_panns": "5%", "inception_score": "5%", "desync_s": "5%"},
        description="metric: tolerance. The interval's worse end may lie so far on the worse side; in the metric's "
        "unit, or as a percentage of the reference's value",
    )


class RegistryConfig(Section):
    """Where runs and models go in MLflow."""

    experiment: str = Field(
        "v2a-dpo", description="MLflow experiment of the runs, and Kubeflow's unless another is given"
    )
    model_name: str = Field("v2a-dpo", description="name of the registered model")


class OrchestrationConfig(Section):
    """How a pipeline run on the cluster divides its work."""

    shards_per_task: Count = Field(4, description="largest number of shards that one pod of a fan-out makes")


class ServeConfig(Section):
    """Limits of what a server accepts."""

    max_duration_s: float = Field(30.0, ge=1, description="longest sound of a request, in seconds")
    max_guidance_scale: float = Field(20.0, ge=1, description="largest guidance scale of a request")
    max_videos: Count = Field(4, description="largest number of videos per request")
    max_upload_mib: Positive = Field(64.0, description="largest size of a video file, in MiB")
    max_megapixels: Positive = Field(9.0, description="largest frame of a video, in millions of pixels; 4K has 8.3")
    max_waiting: int = Field(8, ge=0, description="longest queue of requests; further ones are refused")
    video_root: str = Field("", description="folder whose videos requests may name by path; empty: no paths")


class DvcSplit(Section):
    """The source of a split's clips."""

    videos: str = Field(description="folder or s3:// prefix")
    captions: str = Field(description="the caption table")
    watch: str = Field(
        description="the path that DVC watches for changes: the folder, or the table if there are many videos"
    )


class DvcConfig(Section):
    """The inputs of `dvc.yaml` and the stages it has; no stage reads this section."""

    tiny: list[Literal["tiny"]] = Field([], description="[tiny]: the loop itself makes videos, models and ratings")
    vggsound: dict[str, dict[str, str | list[str]]] = Field(
        {}, description="name: options of `v2a-dpo vggsound` without --output"
    )
    ratings: dict[str, str] = Field({}, description="name: the CSV file of human ratings")
    generator: str = Field(description="folder of the base generator")
    weights: str = Field(description="folder of the generator's further frozen weights: WEIGHTS_DIR")
    scorers: str = Field(description="folder of the scorers")
    splits: dict[Literal["annotation", "preference", "test"], DvcSplit] = Field(description="source of each split")


class Params(Section):
    """All sections of `params.yaml`."""

    profile: str = Field("mmaudio-large-44k", description="name of the preset, shown in reports and runs")
    seed: int = Field(0, ge=0, description="root of all random numbers")
    keep_artifacts: bool = Field(
        False, description="keep finished work made by other code, and record that, instead of making it again"
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
    registry: RegistryConfig = RegistryConfig()
    dvc: DvcConfig | None = None
    orchestration: OrchestrationConfig = OrchestrationConfig()
    serve: ServeConfig = ServeConfig()
