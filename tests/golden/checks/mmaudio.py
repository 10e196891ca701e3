"""Golden checks of MMAudio's flow network: layouts, sequence lengths, and cases with stored or filled weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.format import (
    Case,
    Result,
    UnknownCaseError,
    check_filling,
    check_layout,
    equal,
    fill_input,
    filled_state,
)
from v2a_dpo.flow import guided, sample_euler, time_grid
from v2a_dpo.media.mel import MEL_16K, MEL_44K
from v2a_dpo.models.mmaudio.blocks import RowIndex
from v2a_dpo.models.mmaudio.config import VARIANTS, MMAudioConfig
from v2a_dpo.models.mmaudio.embeddings import nearest_exact_index, rotary_table, rotate
from v2a_dpo.models.mmaudio.model import velocity_in_paper_time
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import Sequences

EXACT = frozenset({"t_embed.freqs"})
_CONFIG_KEYS = {
    "latent_dim": "latent_channels",
    "hidden_dim": "hidden_size",
    "num_heads": "num_heads",
    "fused_depth": "num_fused_blocks",
    "clip_dim": "clip_dim",
    "sync_dim": "sync_dim",
    "text_dim": "text_dim",
    "text_seq_len": "text_length",
    "v2": "v2",
}


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    if "lengths" in case.facts:
        yield from check_sequence(case)
    elif "config" in case.facts:
        yield from NetworkCase(case).results()
    else:
        for name, facts in case.facts.items():
            with torch.device("meta"):
                network = MMAudioNetwork(VARIANTS[name])
            yield from check_layout(f"{case.stem}: {name}", network, facts)


def check_sequence(case: Case) -> Iterator[Result]:
    """Lengths of all sequences, and the source row of every latent step."""
    for codec, rows in case.facts["lengths"].items():
        sequences = Sequences.official({"16k": MEL_16K, "44k": MEL_44K}[codec])
        for row in rows:
            duration_s = row["duration"]
            clip, sync = sequences.feature_lengths(duration_s)
            ours = {
                "duration": duration_s,
                "latent": sequences.latent_length(duration_s),
                "clip": clip,
                "sync": sync,
                "audio_samples": sequences.num_samples(duration_s),
            }
            yield equal(f"{case.stem}: {codec}, {duration_s} s", ours, row)
    for lengths, index in case.facts["nearest_exact_index"].items():
        source, target = map(int, lengths.split("->"))
        yield equal(f"{case.stem}: rows {lengths}", nearest_exact_index(source, target).tolist(), index)


class NetworkCase:
    """One network with its inputs, and our value of every output by its name."""

    def __init__(self, case: Case) -> None:
        self.case = case
        given = dict(case.facts["config"])
        self.latent_length = given.pop("latent_seq_len")
        self.clip_length = given.pop("clip_seq_len")
        self.sync_length = given.pop("sync_seq_len")
        joint_blocks = given.pop("depth") - given["fused_depth"]
        unknown = given.keys() - _CONFIG_KEYS.keys()
        if unknown:
            raise UnknownCaseError(f"configuration keys {sorted(unknown)}")
        ours = {_CONFIG_KEYS[key]: value for key, value in given.items()}
        with torch.device("meta"):
            self.network = MMAudioNetwork(MMAudioConfig(num_joint_blocks=joint_blocks, **ours))
        self.state = case.group("weights") or filled_state(self.network, case.fill_seed)
        self.network.load_state_dict(self.state, strict=True, assign=True)
        self.network.eval()

    def results(self) -> Iterator[Result]:
        """All results of the case."""
        weights = self.case.facts["weights"]
        if isinstance(weights, dict):
            yield from check_filling(self.case.stem, self.state, weights.get("check", {}))
        yield from self.case.compare_outputs(self.output, exact=EXACT)

    def input(self, name: str) -> Tensor:
        """A stored input, or one filled by the rule where the json gives its shape."""
        rule = self.case.facts.get("inputs", {})
        if name not in self.case.inputs and name in rule.get("shapes", {}):
            shape, scale = tuple(rule["shapes"][name]), rule["scales"][name]
            return fill_input(f"full.{name}", shape, self.case.fill_seed, scale=scale)
        return self.case.input(name)

    @cached_property
    def t(self) -> Tensor:
        return self.input("t")

    @cached_property
    def latent(self) -> Tensor:
        return self.input("latent")

    @cached_property
    def cond(self) -> dict[str, Tensor]:
        return self.network.embed_conditions(self.input("clip_f"), self.input("sync_f"), self.input("text_f"))

    @cached_property
    def empty_raw(self) -> dict[str, Tensor]:
        return self.network.empty_conditions(self.clip_length, self.sync_length)

    @cached_property
    def empty(self) -> dict[str, Tensor]:
        return self.network.embed_conditions(*(self.empty_raw[name] for name in ("clip", "sync", "text")))

    @cached_property
    def empty_neg(self) -> dict[str, Tensor]:
        text = self.input("neg_text_f")
        clip, sync = (self.empty_raw[name].expand(text.shape[0], -1, -1) for name in ("clip", "sync"))
        return self.network.embed_conditions(clip, sync, text)

    @cached_property
    def audio(self) -> Tensor:
        return self.network.audio_input_proj(self.latent)

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor]:
        head_size, scale = self.network.config.head_size, self.latent_length / self.clip_length
        return rotary_table(self.latent_length, head_size), rotary_table(self.clip_length, head_size, scale=scale)

    @cached_property
    def row_index(self) -> RowIndex:
        return RowIndex(None, nearest_exact_index(self.sync_length, self.latent_length))

    @cached_property
    def data(self) -> Tensor:
        return self.network.normalize(self.input("data_latent"))

    @cached_property
    def x_t(self) -> Tensor:
        t = self.t[:, None, None]
        return (1 - t) * self.latent + t * self.data

    def embedded(self, conditions: dict[str, Tensor], name: str) -> Tensor:
        """A part of the embedded conditions by upstream's name; sync features dealt out to latent steps."""
        if name == "sync_f":
            return self.row_index.gather(conditions["sync"])
        ours = {"clip_f": "clip", "text_f": "text", "clip_f_c": "clip_pooled", "text_f_c": "text_pooled"}
        if name not in ours:
            raise UnknownCaseError(name)
        return conditions[ours[name]]

    def flow(self, latent: Tensor, t: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        """The velocity in upstream time; a single row of conditions serves all latents."""
        rows = {name: value.expand(latent.shape[0], *value.shape[1:]) for name, value in conditions.items()}
        return self.network.predict_velocity(latent, t.expand(latent.shape[0]), rows)

    def guided_velocity(self, scale: float, empty: dict[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """The guided velocity in the paper's time, both branches in one pass that shares a single null row."""
        batch = self.latent.shape[0]
        rows = {name: torch.cat([value, empty[name]]) for name, value in self.cond.items()}
        null = (
            torch.arange(empty["clip"].shape[0]).expand(batch) if empty["clip"].shape[0] == 1 else torch.arange(batch)
        )
        condition_index = torch.cat([torch.arange(batch), batch + null])

        def both(latents: Tensor, t: Tensor) -> Tensor:
            if latents.shape[0] == batch:
                return velocity_in_paper_time(self.network, latents, t, self.cond)
            t_rows = t[:1].expand(rows["clip"].shape[0])
            return velocity_in_paper_time(self.network, latents, t_rows, rows, condition_index_B=condition_index)

        return guided(both, scale)

    def at(self, t: float | Tensor, velocity: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The upstream-time value of a paper-time velocity at upstream time `t`."""
        return -velocity(self.latent, torch.full(self.latent.shape[:1], 1 - float(t), dtype=torch.float64))

    def sampler(self, key: str) -> float:
        return self.case.facts["sampler"][key]

    def euler(self, scale: float) -> Tensor:
        """The data that `inputs.latent` as noise flows to."""
        return sample_euler(
            self.guided_velocity(scale, self.empty), self.latent, steps=int(self.sampler("euler_steps"))
        )

    def euler_back(self) -> Tensor:
        """The noise that `inputs.latent` as data flows back to, without guidance."""
        times, x = time_grid(int(self.sampler("euler_steps"))).flip(0), self.latent
        velocity = self.guided_velocity(0.0, self.empty)
        for now, after in pairwise(times):
            x = x + float(after - now) * velocity(x, now.expand(x.shape[0]))
        return x

    def euler_first_step(self) -> Tensor:
        """The state after the first step of the guided sampling."""
        first, second = time_grid(int(self.sampler("euler_steps")))[:2]
        velocity = self.guided_velocity(self.sampler("cfg_strength"), self.empty)
        return self.latent + float(second - first) * velocity(self.latent, first.expand(self.latent.shape[0]))

    def joint(self, index: int) -> dict[str, Tensor]:
        """A joint block applied to the projected latent and conditions."""
        g = self.network.global_condition(self.t, self.cond)
        streams = self.network.joint_blocks[index](
            self.audio,
            self.cond["clip"],
            self.cond["text"],
            global_condition=g,
            condition_URD=g + self.cond["sync"],
            row_index=self.row_index,
            latent_table=self.tables[0],
            clip_table=self.tables[1],
        )
        return dict(zip(("latent", "clip_f", "text_f"), streams, strict=True))

    def fused(self, index: int) -> Tensor:
        """A fused block applied to the projected latent."""
        condition = self.network.global_condition(self.t, self.cond) + self.cond["sync"]
        return self.network.fused_blocks[index](self.audio, condition, self.row_index, self.tables[0])

    def output(self, name: str) -> Tensor:
        """Our value of the output `name`."""
        if name.endswith(".mean_over_channels"):
            return self.output(name.removesuffix(".mean_over_channels")).mean(dim=-1)
        if match := re.fullmatch(r"(cond|empty|empty_neg)\.(\w+)", name):
            part = self.embedded(getattr(self, match[1]), match[2])
            return part[:1] if match[1] == "empty" else part
        if match := re.fullmatch(r"joint(\d+)\.(\w+)", name):
            return self.joint(int(match[1]))[match[2]]
        if match := re.fullmatch(r"fused(\d+)", name):
            return self.fused(int(match[1]))
        network, flow = self.network, self.flow
        plain: dict[str, Callable[[], Tensor]] = {
            "t_embed": lambda: network.t_embed(self.t),
            "t_embed.freqs": lambda: network.t_embed.freqs,
            "t_embed.sinusoid": lambda: network.t_embed.sinusoid(self.t),
            "rope.latent_rot": lambda: as_matrices(self.tables[0]),
            "rope.clip_rot": lambda: as_matrices(self.tables[1]),
            "rope.applied": lambda: rotate(self.input("rope_x"), self.tables[0]),
            "audio_input_proj": lambda: self.audio,
            "global_c": lambda: network.global_condition(self.t, self.cond),
            "extended_c": lambda: network.global_condition(self.t, self.cond) + self.embedded(self.cond, "sync_f"),
            "flow": lambda: flow(self.latent, self.t, self.cond),
            "flow_empty": lambda: flow(self.latent, self.t, self.empty),
            "forward": lambda: network(self.latent, *map(self.input, ("clip_f", "sync_f", "text_f")), self.t),
            "cfg_flow": lambda: self.at(
                self.input("t0"), self.guided_velocity(self.sampler("cfg_strength"), self.empty)
            ),
            "cfg_flow_below_1": lambda: self.at(self.input("t0"), self.guided_velocity(0.5, self.empty)),
            "cfg_flow_neg": lambda: self.at(
                self.input("t0"), self.guided_velocity(self.sampler("cfg_strength"), self.empty_neg)
            ),
            "euler.x1": lambda: self.euler(self.sampler("cfg_strength")),
            "euler.x1_nocfg": lambda: self.euler(0.0),
            "euler.x0_back_nocfg": self.euler_back,
            "euler.first_step": self.euler_first_step,
            "normalize": lambda: self.data,
            "unnormalize": lambda: network.unnormalize(self.euler(self.sampler("cfg_strength"))),
            "fm.x_t": lambda: self.x_t,
            "fm.target": lambda: self.data - self.latent,
            "fm.pred": lambda: flow(self.x_t, self.t, self.cond),
            "fm.loss_per_sample": lambda: F.mse_loss(
                flow(self.x_t, self.t, self.cond), self.data - self.latent, reduction="none"
            ).mean(dim=(1, 2)),
            "fm.t_from_normal": lambda: self.input("t_normal").sigmoid(),
        }
        if name not in plain:
            raise UnknownCaseError(name)
        return plain[name]()


def as_matrices(table: Tensor) -> Tensor:
    """A rotary table as upstream stores it: rotation matrices `[1, N, P, 2, 2]`."""
    cos, sin = table
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)[None]
