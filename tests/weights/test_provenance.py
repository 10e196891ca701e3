"""What licences say of a model: by the weights inside, and by the scorers that chose its pairs."""

import pytest

from v2a_dpo.models.mmaudio.checkpoint import model_config
from v2a_dpo.weights.catalog import FILES, NEEDED
from v2a_dpo.weights.provenance import licence_flags


@pytest.mark.parametrize("variant", ["small_16k", "large_44k"])
def test_one_non_commercial_part_among_others_forbids_commercial_use(variant):
    parts = [FILES[name] for name in NEEDED[variant]]
    assert {part.noncommercial for part in parts} == {True, False}
    flags = licence_flags(model_config(variant), scorers="tiny")
    assert flags.commercial_use == "forbidden"
    assert flags.weights == {part.name: part.licence for part in parts}


def test_a_model_of_our_own_is_free_unless_its_pairs_were_chosen_by_scorers_that_are_not():
    assert licence_flags({"family": "tiny"}, scorers="tiny").commercial_use == "allowed"
    flags = licence_flags({"family": "tiny"}, scorers="official")
    assert flags.commercial_use == "unknown"
    assert "NC" in flags.scorers["imagebind"]


def test_a_model_of_unknown_origin_is_not_called_free():
    assert licence_flags({"family": "mmaudio", "width": 3}, scorers="tiny").commercial_use == "unknown"
