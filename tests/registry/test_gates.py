import json
from dataclasses import replace
from typing import get_args

import pytest

from v2a_dpo.config import EvaluateConfig, GatesConfig, MetricKey, Params
from v2a_dpo.errors import UserError
from v2a_dpo.evaluation.bootstrap import Difference, Interval
from v2a_dpo.evaluation.metrics import METRICS, BootstrapSettings, Comparison
from v2a_dpo.params import load_params
from v2a_dpo.registry import gates as gates_module
from v2a_dpo.registry.gates import GateDecision
from v2a_dpo.stages.gate import gate

BOOTSTRAP = BootstrapSettings(resamples=2000, fd_resamples=500, confidence=0.95, seed=0)
GATES = GatesConfig(
    min_clips=50, must_improve=["ib_score"], must_not_worsen={"fd_passt": "10%", "desync_s": 0.02, "clap_score": "0%"}
)


def comparison(**changes: tuple[float, float, float]) -> Comparison:
    """A comparison of `new` with `old` on 64 clips, all values 20; `changes` are differences with their ends."""
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
        "old",
        {"old": values, "new": values},
        {"new": differences},
        {},
        counts=dict.fromkeys(given, 64),
        failed={"old": 0, "new": 0},
        bootstrap=BOOTSTRAP,
    )


def decide(gates, comparison, *, reference="base", least=None):
    return gates_module.decide(gates, comparison, candidate="new", reference=reference, least=least or BOOTSTRAP)


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


def test_a_tolerance_in_percent_is_of_the_references_value():
    made = comparison(fd_passt=(4.0, 3.0, 5.0))
    made.systems["old"] = {**made.systems["old"], "fd_passt": Interval(20.0, 19.0, 21.0)}
    made.systems["new"] = {**made.systems["new"], "fd_passt": Interval(100.0, 99.0, 101.0)}
    decision = decide(GATES, made)
    assert not outcome(decision, "fd_passt"), "10% of the candidate's own 100 would be 10"
    assert "2 is tolerated" in str(decision)


def test_a_metric_that_few_clips_have_decides_nothing():
    made = comparison()
    few = replace(made, counts={**made.counts, "ib_score": 2, "clap_score": 49})
    decision = decide(GATES, few)
    assert [item.metric for item in decision.outcomes if not item.passed] == ["ib_score", "clap_score"]
    assert decision.failures[0] == "ib_score must improve: only 2 clips have it, at least 50 are needed"
    assert decide(GATES, replace(made, counts={**made.counts, "clap_score": 50})).passed


@pytest.mark.parametrize(
    ("made", "passes"),
    [
        ({}, True),
        ({"resamples": 4000, "fd_resamples": 501, "confidence": 0.99}, True),
        ({"confidence": 0.9}, False),
        ({"resamples": 1999}, False),
        ({"fd_resamples": 499}, False),
        ({"seed": 7}, True),
    ],
)
def test_intervals_made_less_strictly_than_the_parameters_say_do_not_pass(made, passes):
    decision = decide(GATES, replace(comparison(), bootstrap=replace(BOOTSTRAP, **made)))
    assert decision.passed == outcome(decision, "intervals") == passes
    assert decision.bootstrap == replace(BOOTSTRAP, **made)
    assert GateDecision.from_dict(decision.to_dict()) == decision


@pytest.mark.parametrize(
    ("failed", "passes"),
    [
        ({"old": 0, "new": 1}, False),  # of 65 clips that is 1.5%
        ({"old": 4, "new": 4}, True),
        ({"old": 9, "new": 0}, True),
        ({"old": 3, "new": 4}, False),
    ],
)
def test_a_candidate_may_not_fail_on_more_clips_than_its_reference(failed, passes):
    decision = decide(GATES, replace(comparison(), failed=failed))
    assert decision.passed == outcome(decision, "failed clips") == passes


def test_a_small_share_of_more_failures_is_tolerated():
    gates = GATES.model_copy(update={"max_more_failures": 0.05})
    # 64 compared: of 67 clips 5% are 3.35, of 68 they are 3.4.
    assert decide(gates, replace(comparison(), failed={"old": 0, "new": 3})).passed
    assert not decide(gates, replace(comparison(), failed={"old": 0, "new": 4})).passed


def test_two_decisions_hold_together_only_if_each_does():
    good = decide(GATES, comparison(), reference="champion version 4")
    bad = decide(GATES, comparison(fd_passt=(3.0, 2.5, 3.5)), reference="the first champion, version 1")
    assert gates_module.both(good, good).passed
    for first, second in ((good, bad), (bad, good)):
        together = gates_module.both(first, second)
        assert not together.passed
        assert together.reference == f"{first.reference} and {second.reference}"
        assert "against the first champion, version 1: changed by +3" in together.failures[0]


def test_a_metric_that_was_not_measured_does_not_pass():
    without = comparison()
    del without.differences["new"]["clap_score"]
    decision = decide(GATES, without, reference="version 3")
    assert not outcome(decision, "clap_score")
    assert "did not measure" in str(decision)
    assert "version 3" in str(decision)


def test_every_metric_can_be_named_in_a_rule():
    assert get_args(MetricKey) == tuple(metric.key for metric in METRICS)


@pytest.mark.parametrize(
    "override",
    [
        "gates.must_not_worsen.fd_passt=many",
        "gates.must_not_worsen.fd_passt=-1",
        "gates.must_improve=[loudness]",
        "gates.must_not_worsen.fd_passt=-5%",
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(tmp_path, override):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"gates\.must"):
        load_params(tmp_path / "params.yaml", [override])


def of_the_loop(made: Comparison) -> str:
    """The content of `metrics.json` with the loop's names for the systems."""
    return json.dumps(made.to_dict()).replace('"old"', '"base"').replace('"new"', '"aligned"')


def test_the_stage_judges_by_the_parameters_of_today(tmp_path):
    (tmp_path / "metrics.json").write_text(of_the_loop(comparison()))
    strict = EvaluateConfig(confidence=0.99, bootstrap_samples=2000, fd_bootstrap_samples=1000)
    decision = gate(Params(gates=GATES, evaluate=strict), evaluation=str(tmp_path), output=str(tmp_path / "gate.json"))
    assert [failure.split(":")[0] for failure in decision.failures] == [
        "intervals at least 99% intervals of 2000 resamples, 1000 for FD"
    ]
    assert json.loads((tmp_path / "gate.json").read_text())["bootstrap"]["confidence"] == 0.95


def test_the_stage_writes_the_decision_of_an_evaluation(tmp_path):
    better, worse = comparison(), comparison(ib_score=(-1.0, -2.0, -0.5))
    params = Params(gates=GATES)
    for made in (better, worse):
        (tmp_path / "metrics.json").write_text(of_the_loop(made))
        decision = gate(params, evaluation=str(tmp_path), output=str(tmp_path / "gate.json"))
        written = json.loads((tmp_path / "gate.json").read_text())
        assert written["passed"] == decision.passed == (made is better)
        assert GateDecision.from_dict(written) == replace(decision)
        assert decision.reference == "base"
