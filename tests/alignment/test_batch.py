"""What a batch of visits holds and what the model's errors on it are."""

import numpy as np
import pytest
import torch

from v2a_dpo.alignment.batch import PairErrors
from v2a_dpo.alignment.pairs_data import AlignmentInputs, gather_pairs
from v2a_dpo.artifacts.dataset import Dataset
from v2a_dpo.models.base import Conditions
from v2a_dpo.models.catalog import load_generator


@pytest.fixture(scope="module")
def data(problem, tmp_path_factory):
    arguments = problem.arguments()
    inputs = AlignmentInputs.open(*(arguments[name] for name in ("pairs", "candidates", "conditions")))
    return gather_pairs(inputs, folder=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(problem):
    return load_generator(problem.root / "generator", device="cpu")


def latent_of(problem, clip, sample):
    for folder in (0, 1):
        for row in (
            Dataset.open(str(problem.root / f"candidates-{folder}")).table(["clip_id", "sample", "latent"]).to_pylist()
        ):
            if (row["clip_id"], row["sample"]) == (clip, sample):
                return np.frombuffer(row["latent"], np.float16).reshape(8, -1)
    raise AssertionError(clip)


def test_gathered_latents_are_the_winners_and_losers_of_the_pairs_own_clips(problem, data):
    assert data.clip_id[0] == "clip23"
    for index in (0, 7, 23):
        np.testing.assert_array_equal(data.latents[index, 0], latent_of(problem, data.clip_id[index], 2))
        np.testing.assert_array_equal(data.latents[index, 1], latent_of(problem, data.clip_id[index], 0))


def test_gathered_conditions_are_those_of_the_pairs_own_clips(problem, data):
    rows = {}
    for folder in (0, 1):
        table = Dataset.open(str(problem.root / f"conditions-{folder}")).table(["clip_id", "sync"])
        rows |= {row["clip_id"]: row["sync"] for row in table.to_pylist()}
    for index in (0, 7, 23):
        assert data.conditions["sync"][index].tobytes() == rows[data.clip_id[index]]


def test_a_batch_puts_winners_first_and_shares_time_noise_and_conditions(data):
    batch = data.batch(np.array([5, 2]), np.array([0, 1]), seed=0)
    assert batch.latents.shape[0] == 4
    for row, (pair, side) in enumerate([(5, 0), (2, 0), (5, 1), (2, 1)]):
        np.testing.assert_array_equal(batch.latents[row].numpy(), data.latents[pair, side].astype(np.float32))
    assert batch.t.shape == (2,)
    assert batch.noise.shape == (2, *data.latents.shape[2:])
    assert batch.conditions.batch == 2


def test_time_and_noise_belong_to_the_visit_whatever_the_batch(data):
    together = data.batch(np.array([5, 2, 9]), np.array([0, 1, 0]), seed=0)
    alone = data.batch(np.array([2]), np.array([1]), seed=0)
    assert torch.equal(together.t[1:2], alone.t)
    assert torch.equal(together.noise[1:2], alone.noise)
    for visit, seed in ((2, 0), (1, 1)):
        other = data.batch(np.array([2]), np.array([visit]), seed=seed)
        assert not torch.equal(other.t, alone.t)
        assert not torch.equal(other.noise, alone.noise)


def test_times_are_uniform_between_data_and_noise(data):
    times = data.batch(np.arange(24).repeat(40), np.tile(np.arange(40), 24), seed=0).t
    assert times.min() >= 0
    assert times.max() < 1
    assert times.mean().item() == pytest.approx(0.5, abs=0.03)
    assert times.var().item() == pytest.approx(1 / 12, rel=0.1)


def test_errors_match_one_forward_pass_a_row(data, model):
    batch = data.batch(np.array([5, 2]), np.array([0, 1]), seed=0)
    expected = []
    for side in (0, 1):
        for row, pair in enumerate((5, 2)):
            t = batch.t[row]
            clean, noise = torch.from_numpy(data.latents[pair, side].astype(np.float32)), batch.noise[row]
            conditions = Conditions(
                {name: torch.from_numpy(values[[pair]]) for name, values in data.conditions.items()}
            )
            with torch.no_grad():
                velocity = model.velocity(((1 - t) * clean + t * noise)[None], t[None], model.embed(conditions))
            expected.append(((velocity[0] - (noise - clean)) ** 2).mean())
    with torch.no_grad():
        found = PairErrors(model, precision="float32")(batch)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_bfloat16_changes_the_errors_little_and_keeps_float32_weights(data, model):
    batch = data.batch(np.array([5, 2]), np.array([0, 1]), seed=0)
    with torch.no_grad():
        exact, rounded = (PairErrors(model, precision=precision)(batch) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.01)
    assert all(parameter.dtype == torch.float32 for parameter in model.network.parameters())


def test_the_loss_is_the_same_for_a_model_that_runs_time_the_other_way(data, model):
    """Errors are squared, so a data-at-one network called at 1 - t with its sign turned is the same model."""
    batch = data.batch(np.array([5, 2]), np.array([0, 1]), seed=0)

    class Reversed:
        network = model.network
        embed = staticmethod(model.embed)

        @staticmethod
        def velocity(latents, t, embedded):
            return -model.network.predict_velocity(latents, 1 - t, embedded.tensors)

    with torch.no_grad():
        torch.testing.assert_close(
            PairErrors(Reversed(), precision="float32")(batch), PairErrors(model, precision="float32")(batch)
        )
