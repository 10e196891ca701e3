from pathlib import Path
from typing import get_args

import pytest

from v2a_dpo.config import EvaluateConfig, GeneratorConfig, Params, Threshold
from v2a_dpo.errors import UserError
from v2a_dpo.models.catalog import FAMILIES
from v2a_dpo.params import load_params, values_of

ROOT = Path(__file__).parents[1]


def test_the_defaults_are_the_papers():
    params = Params()
    assert (params.generate.candidates, params.align.beta, params.align.learning_rate) == (5, 600.0, 5e-6)
    assert (params.align.steps, params.align.batch_size, params.align.warmup_steps) == (12_000, 8, 1000)
    assert (params.align.validation_share, params.generate.guidance_scale) == (0.0, 4.5)
    assert params.mine.threshold == Threshold(value=0.7)
    assert (params.vggsound.annotation_clips, params.vggsound.preference_clips) == (2000, 50_000)


@pytest.mark.parametrize("preset", ["mmaudio-large-44k", "mmaudio-small-16k"])
def test_the_presets_of_the_papers_generators_train_as_the_paper_says(preset):
    """Sections 2.2, 2.3 and 3.1: what a preset leaves out it takes from the defaults, what it names must agree."""
    params = load_params(ROOT / "configs" / f"{preset}.yaml")
    assert params.generate.candidates == 5
    assert params.generate.guidance_scale == 4.5
    assert params.mine.threshold == Threshold(value=0.7)
    assert params.mine.human_pairs
    assert params.align.beta == 600
    assert params.align.steps == 12_000
    assert params.align.batch_size == 8
    assert params.align.learning_rate == 5e-6
    assert params.align.warmup_steps == 1000
    assert params.align.curriculum
    assert params.align.validation_share == 0, "the paper trains on all pairs"
    assert (params.vggsound.annotation_clips, params.vggsound.preference_clips) == (2000, 50_000)


def test_the_active_parameters_are_the_tiny_preset():
    assert load_params(ROOT / "params.yaml") == load_params(ROOT / "configs/tiny.yaml")


def test_the_small_preset_is_the_large_one_for_another_checkpoint():
    large, small = (
        values_of(load_params(ROOT / "configs" / f"{name}.yaml")) for name in ("mmaudio-large-44k", "mmaudio-small-16k")
    )
    changed = {
        f"{section}.{field}" if isinstance(value, dict) else section
        for section, value in large.items()
        for field in (value if isinstance(value, dict) else [section])
        if value != small[section] and (not isinstance(value, dict) or value[field] != small[section][field])
    }
    assert large.keys() == small.keys()
    assert changed == {"profile", "generator.variant", "registry.experiment", "registry.model_name", "dvc.generator"}
    assert (small["generator"]["variant"], small["dvc"]["generator"]) == ("small_16k", "weights/mmaudio_small_16k")


def test_a_file_changes_its_base_field_by_field(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "root.yaml").write_text("align: {beta: 100, steps: 7}\nevaluate: {guidance_curve: [1, 2]}\n")
    (tmp_path / "middle.yaml").write_text("base: root.yaml\nalign: {steps: 8}\nseed: 3\n")
    file = tmp_path / "sub" / "top.yaml"
    file.write_text("base: ../middle.yaml\nevaluate: {guidance_curve: [4]}\nmine: {threshold: {quantile: 0.5}}\n")
    params = load_params(file, ["align.steps=9"])
    assert (params.align.beta, params.align.steps, params.seed) == (100, 9, 3)
    assert load_params(file).align.steps == 8
    assert params.evaluate.guidance_curve == [4.0]
    assert params.mine.threshold == Threshold(quantile=0.5)


def test_a_base_that_is_missing_or_leads_back_is_refused(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("base: nowhere.yaml\n")
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_params(file)
    assert caught.value.where == str(tmp_path / "nowhere.yaml")
    (tmp_path / "nowhere.yaml").write_text("base: params.yaml\n")
    with pytest.raises(UserError, match="its own base"):
        load_params(file)


def test_every_field_has_a_description_and_every_section_a_sentence():
    schema = Params.model_json_schema()
    models = {"Params": schema, **schema["$defs"]}
    assert [name for name, model in models.items() if not model.get("description")] == []
    without = [
        f"{name}.{field}"
        for name, model in models.items()
        for field, value in model["properties"].items()
        if not value.get("description") and "$ref" not in str(value)
    ]
    assert without == []


def test_a_family_that_no_generator_has_is_refused_by_name(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("generator: {family: frieren}\n")
    with pytest.raises(UserError, match=r"generator\.family: Input should be 'tiny' or 'mmaudio'"):
        load_params(file)
    assert set(get_args(GeneratorConfig.model_fields["family"].annotation)) == set(FAMILIES)


def test_an_unknown_field_is_an_error_that_names_it(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("align: {betta: 100}\n")
    with pytest.raises(UserError, match=r"align\.betta") as caught:
        load_params(file)
    assert caught.value.where == str(file)


def test_overrides_are_typed_and_win_over_the_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("align: {beta: 100}\n")
    params = load_params(
        file, ["align.beta=250.5", "mine.threshold.quantile=0.2", "mine.threshold.value=null", "seed=7"]
    )
    assert (params.align.beta, params.seed) == (250.5, 7)
    assert params.mine.threshold == Threshold(quantile=0.2)


@pytest.mark.parametrize(
    "override", ["align.beta", "align.beta=-1", "align.beta=many", "generator.family=other", "seed.x=1", "seed=["]
)
def test_a_wrong_override_is_refused(tmp_path, override):
    file = tmp_path / "params.yaml"
    file.write_text("seed: 0\n")
    with pytest.raises(UserError):
        load_params(file, [override])


def test_an_override_without_a_value_shows_how_to_write_it(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"--set expects section\.field=value, got 'align\.beta'"):
        load_params(tmp_path / "params.yaml", ["align.beta"])


def test_a_threshold_has_exactly_one_form():
    for wrong in ({}, {"value": 0.7, "quantile": 0.2}):
        with pytest.raises(ValueError, match="exactly one"):
            Threshold(**wrong)


def test_an_unreadable_file_says_where_and_what_to_do(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_params(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("align: [")
    with pytest.raises(UserError, match="cannot be read"):
        load_params(broken)
    broken.write_text("- align")
    with pytest.raises(UserError, match="not a mapping of sections"):
        load_params(broken)


@pytest.mark.parametrize(
    "override",
    [
        "evaluate.bootstrap_samples=199",
        "evaluate.fd_bootstrap_samples=20",
        "evaluate.confidence=0.79",
        "evaluate.confidence=0",
        "evaluate.confidence=1",
        "evaluate.allow_different=[loudness]",
    ],
)
def test_intervals_that_would_pass_almost_anything_are_refused(tmp_path, override):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_params(tmp_path / "params.yaml", [override])


@pytest.mark.parametrize(
    ("confidence", "resamples", "enough"), [(0.95, 200, True), (0.99, 999, False), (0.99, 1000, True), (0.8, 200, True)]
)
def test_a_higher_confidence_needs_more_resamples(confidence, resamples, enough):
    values = {"confidence": confidence, "bootstrap_samples": resamples, "fd_bootstrap_samples": resamples}
    if enough:
        assert EvaluateConfig(**values).confidence == confidence
    else:
        with pytest.raises(ValueError, match="need 1000 resamples or more"):
            EvaluateConfig(**values)
