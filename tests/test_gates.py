import json
from dataclasses import replace
from typing import get_args

import pytest

from v2a_dpo import gates as gates_module
from v2a_dpo.config import GatesConfig, MetricKey, Params, load_params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import METRICS, NO_FAILURES, BootstrapSettings, Comparison
from v2a_dpo.gates import GateDecision
from v2a_dpo.stages.gate import gate

BOOTSTRAP = BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0)
GATES = GatesConfig(
    min_clips=50, must_improve=["ib_score"], must_not_worsen={"fd_passt": "10%", "desync_s": 0.02, "clap_score": "0%"}
)


def comparison(**changes: tuple[float, float, float]) -> Comparison:
    """A comparison of 64 clips whose base values are 20; `changes` are differences with their ends."""
    given = {
        "ib_score": (2.0, 1.0, 3.0),
        "fd_passt": (0.0, -1.0, 1.0),
        "desync_s": (-0.01, -0.03, 0.01),
        "clap_score": (0.1, 0.05, 0.2),
        **changes,
    }
    values = {key: Interval(20.0, 19.0, 21.0) for key in given}
    differences = {key: Difference(*ends, p_better=0.5, p_two_sided=0.5) for key, ends in given.items()}
    return Comparison(
        64,
        {"base": values, "aligned": values},
        differences,
        None,
        counts=dict.fromkeys(given, 64),
        failed=NO_FAILURES,
        bootstrap=BOOTSTRAP,
    )


def decide(gates, comparison, *, reference="base", least=None):
    return gates_module.decide(gates, comparison, reference=reference, least=least or BOOTSTRAP)


def outcome(decision: GateDecision, metric: str) -> bool:
    (found,) = [item for item in decision.outcomes if item.metric == metric]
    return found.passed


def test_a_model_that_keeps_every_rule_passes_with_a_reason_for_each():
    decision = decide(GATES, comparison(), reference="base")
    assert decision.passed
    assert [item.metric for item in decision.outcomes] == [
        "clips",
        "intervals",
        "failed clips",
        "ib_score",
        "fd_passt",
        "desync_s",
        "clap_score",
    ]
    assert "changed by +2 [+1, +3], higher is better" in str(decision)
    assert decision.failures == []


@pytest.mark.parametrize(
    ("metric", "change", "passes"),
    [
        ("ib_score", (2.0, 0.01, 4.0), True),
        ("ib_score", (2.0, 0.0, 4.0), False),  # an interval that touches zero shows no improvement
        ("ib_score", (2.0, -0.5, 4.5), False),
        ("ib_score", (-2.0, -3.0, -1.0), False),
        ("fd_passt", (-5.0, -6.0, -4.0), True),
        ("fd_passt", (1.0, 0.0, 2.0), True),  # 10% of 20 is 2
        ("fd_passt", (1.0, -0.1, 2.1), False),  # it may be worse than what is tolerated: not shown to be safe
        ("fd_passt", (5.0, 4.0, 6.0), False),
        ("desync_s", (0.0, -0.02, 0.02), True),
        ("desync_s", (0.01, 0.0, 0.021), False),
        ("clap_score", (0.1, 0.0, 0.2), True),
        ("clap_score", (0.1, -0.001, 0.2), False),
    ],
)
def test_the_worse_end_of_the_interval_decides(metric, change, passes):
    decision = decide(GATES, comparison(**{metric: change}), reference="base")
    assert outcome(decision, metric) == passes
    assert decision.passed == passes
    assert len(decision.failures) == (not passes)


def test_too_few_clips_decide_nothing():
    decision = decide(GATES.model_copy(update={"min_clips": 65}), comparison(), reference="base")
    assert not decision.passed
    assert decision.failures[0] == "clips at least 65: 64 were compared"


def test_a_metric_that_was_not_measured_does_not_pass():
    without = comparison()
    del without.differences["clap_score"]
    decision = decide(GATES, without, reference="version 3")
    assert not outcome(decision, "clap_score")
    assert "did not measure" in str(decision)
    assert "version 3" in str(decision)


def test_every_metric_can_be_named_in_a_rule():
    assert get_args(MetricKey) == tuple(metric.key for metric in METRICS)


@pytest.mark.parametrize("override", ["gates.must_not_worsen.fd_passt=many", "gates.must_not_worsen.fd_passt=-1",
                                      "gates.must_improve=[loudness]", "gates.must_not_worsen.fd_passt=-5%"])  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(tmp_path, override):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"gates\.must"):
        load_params(tmp_path / "params.yaml", [override])


def test_the_stage_writes_the_decision_of_an_evaluation(tmp_path):
    better, worse = comparison(), comparison(ib_score=(-1.0, -2.0, -0.5))
    params = Params(gates=GATES)
    for made in (better, worse):
        (tmp_path / "metrics.json").write_text(json.dumps(made.to_dict()))
        decision = gate(params, evaluation=str(tmp_path), output=str(tmp_path / "gate.json"))
        written = json.loads((tmp_path / "gate.json").read_text())
        assert written["passed"] == decision.passed == (made is better)
        assert GateDecision.from_dict(written) == replace(decision)
        assert decision.reference == "base"
