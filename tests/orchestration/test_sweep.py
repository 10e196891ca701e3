"""Table 2: the sweep's cells, their parameters, and the table of all."""

import csv
import json

import pytest

from v2a_dpo.config import Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.folder import EvaluationFolder
from v2a_dpo.evaluation.metrics import BootstrapSettings, Comparison
from v2a_dpo.orchestration.sweep import cell_params, collect_sweep, plan_sweep
from v2a_dpo.params import params_from, values_of

PARAMS = Params()


def test_one_factor_at_a_time_gives_the_papers_cells_in_the_papers_order():
    cells = plan_sweep(PARAMS, betas=[1000.0, 800.0, 400.0, 200.0], thresholds=[1.0, 0.9, 0.8, 0.6])
    assert cells == [
        "beta-600-threshold-0.7",
        "beta-1000-threshold-0.7", "beta-800-threshold-0.7", "beta-400-threshold-0.7", "beta-200-threshold-0.7",
        "beta-600-threshold-1", "beta-600-threshold-0.9", "beta-600-threshold-0.8", "beta-600-threshold-0.6",
    ]  # fmt: skip


def test_the_parameters_own_cell_is_there_once_even_when_the_lists_name_its_values():
    assert plan_sweep(PARAMS, betas=[600, 200], thresholds=[0.7]) == [
        "beta-600-threshold-0.7",
        "beta-200-threshold-0.7",
    ]


def test_a_sweep_of_quantiles_starts_from_the_parameters_own():
    params = Params.model_validate({"mine": {"threshold": {"quantile": 0.5}}})
    cells = plan_sweep(params, betas=[200], thresholds=[0.8])
    assert cells == ["beta-600-threshold-0.5", "beta-200-threshold-0.5", "beta-600-threshold-0.8"]


def test_a_grid_has_a_cell_for_every_beta_with_every_threshold():
    cells = plan_sweep(PARAMS, betas=[200, 1000.0], thresholds=[0.5, 0.7], grid=True)
    assert cells == [
        "beta-200-threshold-0.5", "beta-200-threshold-0.7", "beta-1000-threshold-0.5", "beta-1000-threshold-0.7",
    ]  # fmt: skip


def test_a_cell_changes_beta_and_threshold_and_nothing_else():
    changed = params_from(cell_params(values_of(PARAMS), "beta-200-threshold-0.5"))
    assert (changed.align.beta, changed.mine.threshold.value) == (200.0, 0.5)
    restored = changed.model_copy(update={"align": PARAMS.align, "mine": PARAMS.mine})
    assert restored == PARAMS


def test_a_threshold_stays_a_quantile_where_it_was_one():
    values = values_of(Params.model_validate({"mine": {"threshold": {"quantile": 0.2}}}))
    assert params_from(cell_params(values, "beta-1e-05-threshold-0.4")).mine.threshold.quantile == 0.4


@pytest.mark.parametrize(
    ("betas", "thresholds", "where"),
    [
        ([], [0.7], "betas"),
        ([200], [], "thresholds"),
        ([1, 1], [0.7], "betas"),
        ([200, "a"], [0.7], "betas"),
        ([200], [True], "thresholds"),
        ([-1], [0.7], "beta--1-threshold-0.7"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_runs(betas, thresholds, where):
    with pytest.raises(UserError) as caught:
        plan_sweep(PARAMS, betas=betas, thresholds=thresholds)
    assert caught.value.where == where


def test_the_table_has_the_base_and_a_row_a_cell_with_its_share_of_easy_pairs(tmp_path):
    def comparison(value):
        systems = {"base": {"fd_passt": Interval(9.0, 8.0, 10.0)}, "aligned": {"fd_passt": Interval(value, 0.0, 3.0)}}
        change = {"aligned": {"fd_passt": Difference(value - 9.0, -9.0, -5.0, 0.001, 0.002)}}
        bootstrap = BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0)
        return Comparison(64, "base", systems, change, {}, {"fd_passt": 64}, {"base": 0, "aligned": 0}, bootstrap)

    cells, folders, pairs = ["beta-1-threshold-0.5", "beta-2-threshold-1"], [], []
    phases = [{"easy": 81, "hard": 19}, {"hard": 100}]
    for index, cell in enumerate(cells):
        folder = tmp_path / cell
        folder.mkdir()
        EvaluationFolder(str(folder)).write(comparison(index + 1.0), {}, tables="")
        folders.append(str(folder))
        (folder / "pairs-summary.json").write_text(json.dumps({"phases": phases[index]}))
        pairs.append(str(folder / "pairs"))
    table = collect_sweep(PARAMS, cells=cells, pairs=pairs, evaluations=folders, output=str(tmp_path / "out"))
    assert table.splitlines()[2:] == [
        "| base |  | 9.00 |", f"| {cells[0]} | 81% | 1.00 |", f"| {cells[1]} | 0% | 2.00 |",
    ]  # fmt: skip
    assert (tmp_path / "out" / "sweep.md").read_text() == table
    rows = list(csv.DictReader((tmp_path / "out" / "sweep.csv").open()))
    assert [(row["cell"], float(row["fd_passt"])) for row in rows] == [("base", 9), (cells[0], 1), (cells[1], 2)]
    assert [row["easy_share"] for row in rows] == ["", "0.81", "0.0"]
    written = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [written[cell]["easy_share"] for cell in cells] == [0.81, 0.0]
