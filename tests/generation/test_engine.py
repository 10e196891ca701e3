"""The engine on many clips: order, batches, memory that runs out, and candidates that fail."""

import logging
import threading
import time

import numpy as np
import pytest
import torch

from v2a_dpo.artifacts.shards import QuarantinedRow
from v2a_dpo.errors import UserError
from v2a_dpo.generation import engine as engine_module
from v2a_dpo.generation.batches import AdaptiveBatches, automatic_batch_size, fitting_batch_size
from v2a_dpo.generation.engine import CandidateEngine
from v2a_dpo.media.audio import decode_flac

CLIPS = [f"clip{index}" for index in range(11)]
CPU_FULL = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 9 bytes."
)


@pytest.fixture(scope="module")
def eleven(make_conditions):
    return make_conditions(len(CLIPS))


def generated(drawing, conditions, *, clips_per_batch):
    return list(CandidateEngine(drawing, clips_per_batch=clips_per_batch).generate(CLIPS, conditions))


def fail_when(monkeypatch, drawing, too_much, error):
    """Lets the sampler run out of memory on batches of clip ids for which `too_much` holds; returns the sizes it
    met."""
    sizes = []
    real = drawing.latents

    def latents(clip_ids, conditions, **options):
        sizes.append(len(clip_ids))
        if too_much(clip_ids):
            raise error
        return real(clip_ids, conditions, **options)

    monkeypatch.setattr(drawing, "latents", latents)
    return sizes


def assert_same(got, expected):
    assert [row.clip_id for row in got] == [row.clip_id for row in expected]
    for row, wanted in zip(got, expected, strict=True):
        scale = np.sqrt(np.mean(np.square(wanted.latents, dtype=np.float64)))
        # Half precision may round differently at a tie: one unit in the last place of the largest value.
        assert np.abs(row.latents.astype(np.float64) - wanted.latents).max() <= 1e-4 * scale + 2 * np.spacing(
            np.abs(wanted.latents).max()
        )


def test_every_clip_comes_out_once_in_its_place(model, eleven, sampler, monkeypatch):
    real = engine_module.encode_flac

    def slow_at_first(audio, sample_rate):
        time.sleep(max(0.0, 0.02 - 0.002 * len(encoded)))
        encoded.append(None)
        return real(audio, sample_rate)

    encoded: list[None] = []
    monkeypatch.setattr(engine_module, "encode_flac", slow_at_first)
    drawing = sampler(model, candidates=2, steps=1)
    engine = CandidateEngine(drawing, clips_per_batch=2)
    engine._encoders = 4
    rows = list(engine.generate(CLIPS, eleven))
    assert [row.clip_id for row in rows] == CLIPS
    assert all(row.latents.shape == (2, *drawing.latent_shape) and row.latents.dtype == np.float16 for row in rows)


def test_the_same_settings_give_the_same_bytes_and_other_batches_the_same_candidates(model, eleven, sampler):
    drawing = sampler(model, candidates=2, steps=2)
    first, again, one_by_one = (generated(drawing, eleven, clips_per_batch=size) for size in (4, 4, 1))
    assert [(row.clip_id, row.latents.tobytes(), row.flac) for row in first] == [
        (row.clip_id, row.latents.tobytes(), row.flac) for row in again
    ]
    assert_same(one_by_one, first)


def test_the_sound_is_decoded_from_the_latents_that_are_kept(model, eleven, sampler):
    drawing = sampler(model, candidates=2, steps=1)
    row = generated(drawing, eleven, clips_per_batch=4)[5]
    expected = drawing.audio(torch.from_numpy(row.latents)[None].float())[0]
    for flac, audio in zip(row.flac, expected, strict=True):
        samples, sample_rate = decode_flac(flac)
        assert sample_rate == model.sample_rate
        torch.testing.assert_close(samples, audio, rtol=0, atol=2**-15)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_FULL), MemoryError()]
)
def test_a_full_memory_halves_the_batch_and_loses_nothing(error, model, eleven, sampler, monkeypatch, caplog):
    expected = generated(sampler(model, candidates=2, steps=2), eleven, clips_per_batch=8)
    drawing = sampler(model, candidates=2, steps=2)
    sizes = fail_when(monkeypatch, drawing, lambda clips: len(clips) > 3, error)
    engine = CandidateEngine(drawing, clips_per_batch=8)
    # A database migration in an earlier test may have switched it off.
    monkeypatch.setattr(logging.getLogger("v2a_dpo.generation.batches"), "disabled", False)
    with caplog.at_level(logging.WARNING):
        rows = list(engine.generate(CLIPS, eleven))
    assert_same(rows, expected)
    assert sizes == [8, 4, 2, 2, 4, 2, 2, 2, 1]
    assert engine.clips_per_batch == 2
    assert [record.message for record in caplog.records] == ["Out of memory with 4 clips at once; going on with 2."]


def test_memory_that_runs_out_with_a_single_clip_blames_no_clip(model, eleven, sampler, monkeypatch):
    drawing = sampler(model, candidates=1, steps=1)
    sizes = fail_when(
        monkeypatch, drawing, lambda clips: "clip6" in clips, torch.OutOfMemoryError("CUDA out of memory.")
    )
    rows = []
    with pytest.raises(UserError, match=r"CUDA out of memory.*finished work is kept"):
        rows.extend(CandidateEngine(drawing, clips_per_batch=4).generate(CLIPS, eleven))
    assert sizes == [4, 4, 2, 2, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flac")]


def test_other_errors_are_not_taken_for_a_full_memory(model, eleven, sampler, monkeypatch):
    drawing = sampler(model, candidates=1, steps=1)
    fail_when(monkeypatch, drawing, lambda clips: True, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="multiplied"):
        generated(drawing, eleven, clips_per_batch=4)


def test_undefined_samples_send_a_clip_to_quarantine(model, eleven, sampler):
    drawing = sampler(model, candidates=2, steps=1)
    name = next(iter(eleven.tensors))
    broken = {**eleven.tensors, name: eleven.tensors[name].clone()}
    broken[name][3] = torch.nan
    rows = generated(drawing, type(eleven)(broken), clips_per_batch=4)
    assert [row.clip_id for row in rows] == CLIPS
    assert [(row.clip_id, row.error) for row in rows if isinstance(row, QuarantinedRow)] == [
        ("clip3", "NonFiniteAudio")
    ]


def test_batches_cover_all_items_in_order():
    batches = AdaptiveBatches(lambda batch, batch_size: (tuple(batch), batch_size), size=4)
    assert list(batches.map(range(10))) == [((0, 1, 2, 3), 4), ((4, 5, 6, 7), 4), ((8, 9), 4)]
    assert list(batches.map([])) == []


def test_the_automatic_batch_fills_the_device_and_fits_into_its_memory(model, sampler):
    # 4096 latent steps in one pass: 64 of a clip, 5 candidates, 2 branches.
    assert automatic_batch_size(sampler(model, candidates=5)) == 7
    assert automatic_batch_size(sampler(model, candidates=5, guidance_scale=1.0)) == 13
    assert fitting_batch_size(10, bytes_per_clip=1 << 30, free_bytes=80 << 30) == 10
    assert fitting_batch_size(10, bytes_per_clip=1 << 30, free_bytes=8 << 30) == 5
    assert fitting_batch_size(10, bytes_per_clip=1 << 40, free_bytes=8 << 30) == 1
