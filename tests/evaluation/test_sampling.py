"""What `evaluate` refuses to compare, and what it says of what it was allowed to compare."""

import json
import re
from pathlib import Path

import pytest

from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.errors import UserError
from v2a_dpo.stages.report import report


def run(loop, output, *, allowed=(), **systems):
    params = loop.with_settings(evaluate={"allow_different": list(allowed)})
    return loop.evaluate(output, params=params, **systems)


def with_values(**values):
    return lambda row: {**row, **values}


def test_systems_that_nothing_about_is_alike_are_refused_with_all_that_differs(loop, new_system, tmp_path):
    base = new_system("base", change=with_values(guidance_scale=1.0, steps=4, seed=1))
    aligned = new_system("aligned", of="aligned", change=with_values(guidance_scale=4.5, steps=50, seed=99))
    with pytest.raises(UserError) as caught:
        run(loop, tmp_path / "out", base=base, aligned=aligned)
    said = str(caught.value)
    for words in (
        "guidance scale: 1 (base) and 4.5 (aligned)",
        "sampling steps: 4 (base) and 50 (aligned)",
        "seeds: not the same for 12 of 12 clips, for example 1 (base) and 99 (aligned)",
        base[0],
        aligned[0],
        "evaluate.allow_different='[seed, steps, guidance_scale]'",
    ):
        assert words in said
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_swapped_scores_are_refused(loop, tmp_path):
    base, aligned = loop.inputs["base"], loop.inputs["aligned"]
    with pytest.raises(UserError, match="not made with the candidates that were given") as caught:
        run(loop, tmp_path / "out", base=(base[0], aligned[1]), aligned=(aligned[0], base[1]))
    assert caught.value.where == aligned[1]
    assert Dataset.open(base[0]).fingerprint in caught.value.what
    assert Dataset.open(aligned[0]).fingerprint in caught.value.what


@pytest.mark.parametrize("kind", ["candidates", "clips", "scorers"])
def test_scores_of_something_else_are_refused(loop, new_system, tmp_path, kind):
    base = new_system("base", made_of={kind: "of another day"})
    with pytest.raises(UserError, match=f"not made with the {kind} that were given: of another day in their manifest"):
        run(loop, tmp_path / "out", base=base)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 25}, "sampling steps: 25 (base) and 12 (aligned)"),
        ({"guidance_scale": 1.4}, "guidance scale: 1.4 (base) and 2 (aligned)"),
        ({"use_text": False}, "text switch: off (base) and on (aligned)"),
        ({"sample_rate": 44_100}, "sample rate: 44100 (base) and 16000 (aligned)"),
        ({"seed": 5}, "seeds: not the same for 12 of 12 clips"),
    ],
)
def test_each_setting_alone_is_compared_and_can_be_allowed(loop, new_system, tmp_path, change, said):
    (key,) = change
    base = new_system("base", change=with_values(**change))
    with pytest.raises(UserError, match=re.escape(said)):
        run(loop, tmp_path / "out", base=base)
    others = [name for name in ("seed", "steps", "guidance_scale", "use_text", "sample_rate") if name != key]
    with pytest.raises(UserError, match=re.escape(said)):
        run(loop, tmp_path / "out", base=base, allowed=others)


def test_other_conditions_and_other_clips_are_refused(loop, new_system, tmp_path):
    with pytest.raises(UserError, match=r"conditions: others \(base\) and the test clips' conditions \(aligned\)"):
        run(loop, tmp_path / "out", base=new_system("moved", conditions="others"))
    with pytest.raises(UserError, match=r"conditions: not recorded \(base\)"):
        run(loop, tmp_path / "out", base=new_system("unknown", conditions=""))
    first = Dataset.open(loop.folder("clips")).table(["clip_id"]).column("clip_id")[0].as_py()
    fewer = new_system("fewer", change=lambda row: None if row["clip_id"] == first else row)
    with pytest.raises(UserError, match="clips: 0 of base, 1 of aligned not tried by all"):
        run(loop, tmp_path / "out", base=fewer)


def test_one_system_made_in_two_ways_is_refused(loop, new_system, tmp_path):
    first = Dataset.open(loop.folder("clips")).table(["clip_id"]).column("clip_id")[0].as_py()
    mixed = new_system("mixed", change=lambda row: {**row, "guidance_scale": 7.0} if row["clip_id"] == first else row)
    with pytest.raises(UserError, match="2 different values of guidance scale") as caught:
        run(loop, tmp_path / "out", base=mixed)
    assert caught.value.where == mixed[0]


def test_what_is_allowed_is_told_in_every_table_the_report_and_the_summary(loop, new_system, tmp_path):
    base = new_system("base", change=with_values(guidance_scale=1.0, seed=1))
    text = run(loop, tmp_path / "out", base=base, allowed=["guidance_scale", "seed"])
    remark = "guidance scale 1 (base) and 2 (aligned)"
    tables = (tmp_path / "out" / "table.md").read_text()
    captions = [line for line in tables.splitlines() if "Not the same: " in line]
    assert len(captions) == 3
    assert all(remark in caption and "seeds not the same for 12 of 12 clips" in caption for caption in captions)
    assert remark in text
    assert "same clips and noise" not in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["differences"]) == {"guidance_scale", "seed"}
    assert summary["sampling"]["base"]["guidance_scale"] == 1.0
    assert summary["sampling"]["base"]["seed"] is None
    assert summary["sampling"]["aligned"] == {
        "seed": 0, "steps": 12, "guidance_scale": 2.0, "use_text": True, "sample_rate": 16_000,
    }  # fmt: skip
    inputs = {**loop.inputs, "base": base}
    report(loop.params, **inputs, evaluation=str(tmp_path / "out"), output=str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert page.count(remark) >= 4, "in the notes and in each of the three tables"
    assert "the same noise for both" not in page


def test_captions_speak_of_the_candidates_and_not_of_the_parameters(loop, new_system, tmp_path):
    systems = {name: new_system(name, of=name, change=with_values(guidance_scale=3.0)) for name in ("base", "aligned")}
    assert loop.params.generate.guidance_scale == 2.0
    text = run(loop, tmp_path, **systems)
    assert "guidance scale 3, 12 steps" in text
    assert "guidance scale 2" not in Path(tmp_path, "table.md").read_text()


def test_the_first_candidate_of_a_clip_is_evaluated_and_not_the_last(loop, evaluated, new_system, tmp_path):
    others = Dataset.open(loop.folder("candidates", "base")).table().to_pylist()
    second = [{**row, "sample": 1, "audio": other["audio"]} for row, other in zip(others, others[::-1], strict=True)]
    text = run(loop, tmp_path, base=new_system("base", extra=second))
    assert text == evaluated[1]
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(
        Path(evaluated[0], "metrics.json").read_text()
    )


def test_official_scorers_are_refused_in_words(loop, tmp_path):
    with pytest.raises(UserError, match="no scorers called 'official'"):
        loop.evaluate(tmp_path, params=loop.with_settings(score={"scorers": "official"}))
