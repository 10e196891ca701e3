"""`v2a-dpo config ...`: the complete parameters and the reference page are those in the repository."""

from __future__ import annotations

import yaml
from typer.testing import CliRunner

from tests.docs.pages import ROOT
from v2a_dpo.cli.main import app
from v2a_dpo.params import load_params

TINY = str(ROOT / "configs" / "tiny.yaml")


def call(*arguments):
    done = CliRunner().invoke(app, ["config", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_active_parameters_are_the_tiny_preset_written_out():
    assert call("show", "--params", TINY) == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_a_complete_file_gives_the_same_parameters_even_over_itself(tmp_path):
    file = tmp_path / "params.yaml"
    small = str(ROOT / "configs" / "mmaudio-small-16k.yaml")
    assert call("show", "--params", small, "--output", str(file)).strip() == str(file)
    call("show", "--params", str(file), "--output", str(file))
    assert "base" not in yaml.safe_load(file.read_text())
    assert load_params(file) == load_params(small)


def test_the_configuration_page_is_the_generated_one():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == call("reference"), "run: v2a-dpo config reference > docs/configuration.md"


def test_the_reference_has_a_row_with_range_and_meaning_for_every_field():
    page = call("reference")
    assert "| `beta` | `600.0` | > 0 | strength of the KL constraint" in page
    assert "| `threshold.quantile` | `null` | ≥ 0, ≤ 1 |" in page
    assert "| `family` | `mmaudio` | `tiny`, `mmaudio` |" in page
    assert "| `confidence` | `0.95` | ≥ 0.8, < 1 |" in page


def test_every_command_has_an_example():
    for name in ("show", "reference"):
        assert f"v2a-dpo config {name}" in call(name, "--help")
