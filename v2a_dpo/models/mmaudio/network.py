"""MMAudio's velocity network: checkpoint-compatible with the official files, in upstream time (t = 0 noise, t = 1
data).

Letters in tensor names: B batch, U distinct conditions, L latent length, C latent channels, D hidden size,
T feature length.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from v2a_dpo.models.mmaudio.blocks import (
    FinalLayer,
    FusedBlock,
    GatedMLP,
    JointBlock,
    RowIndex,
    TimeConv1d,
)
from v2a_dpo.models.mmaudio.config import SYNC_GROUP, MMAudioConfig
from v2a_dpo.models.mmaudio.embeddings import TimeEmbedding, nearest_exact_index, rotary_table

#: Buffers in some released files that this network computes.
LEGACY_KEYS = frozenset({"t_embed.freqs", "latent_rot", "clip_rot"})


class MMAudioNetwork(nn.Module):
    """Predicts the flow of a normalised audio latent from CLIP, Synchformer and text features.

    Every state-dict key and shape is that of the official checkpoints. Any latent, CLIP and Synchformer length works.
    """

    def __init__(self, config: MMAudioConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        hidden, c = config.hidden_size, config
        self.audio_input_proj = nn.Sequential(
            TimeConv1d(c.latent_channels, hidden, 7), nn.SiLU() if c.v2 else nn.SELU(), GatedMLP(c, 7)
        )
        self.clip_input_proj = nn.Sequential(
            nn.Linear(c.clip_dim, hidden), *([nn.SiLU()] if c.v2 else []), GatedMLP(c, 3)
        )
        self.sync_input_proj = nn.Sequential(
            TimeConv1d(c.sync_dim, hidden, 7), nn.SiLU() if c.v2 else nn.SELU(), GatedMLP(c, 3)
        )
        self.text_input_proj = nn.Sequential(nn.Linear(c.text_dim, hidden), *([nn.SiLU()] if c.v2 else []), GatedMLP(c))
        self.clip_cond_proj = nn.Linear(hidden, hidden)
        self.text_cond_proj = nn.Linear(hidden, hidden)
        self.global_cond_mlp = GatedMLP(c)
        self.t_embed = TimeEmbedding(c)
        self.joint_blocks = nn.ModuleList(
            JointBlock(c, last=i == c.num_joint_blocks - 1) for i in range(c.num_joint_blocks)
        )
        self.fused_blocks = nn.ModuleList(FusedBlock(c) for _ in range(c.num_fused_blocks))
        self.final_layer = FinalLayer(c)
        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SYNC_GROUP, c.sync_dim))
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, c.clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, c.sync_dim))
        # Data constants that live in the checkpoint and are never trained.
        self.latent_mean = nn.Parameter(torch.zeros(1, 1, c.latent_channels), requires_grad=False)
        self.latent_std = nn.Parameter(torch.ones(1, 1, c.latent_channels), requires_grad=False)
        self.empty_string_feat = nn.Parameter(torch.zeros(c.text_length, c.text_dim), requires_grad=False)
        self.initialise(generator)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws the weights as for training from scratch; the untrained network predicts zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
            elif isinstance(module, nn.Conv1d):
                # torch's own initialisation of a convolution, with the generator given.
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            else:
                continue
            if module.bias is not None:
                bound = (module.in_channels * module.kernel_size[0]) ** -0.5 if isinstance(module, nn.Conv1d) else 0.0
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        self.t_embed.initialise(generator)
        for name, parameter in self.named_parameters():
            if "adaLN_modulation" in name or name.startswith("final_layer.conv"):
                nn.init.zeros_(parameter)

    def normalize(self, latents_BLC: Tensor) -> Tensor:
        """The codec's latents per channel shifted and scaled to zero mean and unit variance over the training set."""
        return (latents_BLC - self.latent_mean) / self.latent_std

    def unnormalize(self, latents_BLC: Tensor) -> Tensor:
        """The inverse of `normalize`; the argument stays as it is."""
        return latents_BLC * self.latent_std + self.latent_mean

    def empty_conditions(self, clip_length: int, sync_length: int) -> dict[str, Tensor]:
        """The raw features `clip`, `sync` and `text` of one row that stand for no video and no text."""
        return {
            "clip": self.empty_clip_feat.expand(1, clip_length, -1),
            "sync": self.empty_sync_feat.expand(1, sync_length, -1),
            "text": self.empty_string_feat[None],
        }

    def embed_conditions(self, clip_f: Tensor, sync_f: Tensor, text_f: Tensor) -> dict[str, Tensor]:
        """The projected conditions of B clips, independent of time and noise: compute them once per clip.

        Takes CLIP features `[B, T, clip_dim]`, Synchformer features `[B, T, sync_dim]` (T a multiple of 8) and text
        features `[B, text_length, text_dim]`. Returns `clip`, `sync`, `text` `[B, T, D]` and the pooled `clip_pooled`,
        `text_pooled` `[B, D]`. The sync rows keep their own rate; `predict_velocity` gathers them for latent steps.
        """
        grouped = sync_f.unflatten(1, (-1, SYNC_GROUP)) + self.sync_pos_emb
        clip = self.clip_input_proj(clip_f)
        text = self.text_input_proj(text_f)
        return {
            "clip": clip,
            "sync": self.sync_input_proj(grouped.flatten(1, 2)),
            "text": text,
            "clip_pooled": self.clip_cond_proj(clip.mean(dim=1)),
            "text_pooled": self.text_cond_proj(text.mean(dim=1)),
        }

    def global_condition(self, t_U: Tensor, embedded: Mapping[str, Tensor]) -> Tensor:
        """The conditioning vector `[U, 1, D]` of whole clips at upstream time `t_U`."""
        pooled = self.global_cond_mlp(embedded["clip_pooled"] + embedded["text_pooled"])
        return (self.t_embed(t_U) + pooled)[:, None]

    def predict_velocity(
        self,
        latents_BLC: Tensor,
        t_U: Tensor,
        embedded: Mapping[str, Tensor],
        *,
        condition_index_B: Tensor | None = None,
    ) -> Tensor:
        """The velocity data - noise `[B, L, C]` at upstream time `t_U` (0 noise, 1 data) of normalised latents.

        Time and embedded conditions have one row per latent. With `condition_index_B` (int64) they have U rows and
        latent i takes row `condition_index_B[i]`: the candidates of a clip, and all null branches of a batch, then
        share the work on their conditions.
        """
        length, head_size, device = latents_BLC.shape[1], self.config.head_size, latents_BLC.device
        whole = RowIndex(condition_index_B, None)
        clip, text, sync = whole.gather(embedded["clip"]), whole.gather(embedded["text"]), embedded["sync"]
        latent_table = rotary_table(length, head_size, device=device)
        # CLIP tokens sit on the latent axis: their positions are scaled to latent steps.
        clip_table = rotary_table(clip.shape[1], head_size, scale=length / clip.shape[1], device=device)
        row_index = RowIndex(condition_index_B, nearest_exact_index(sync.shape[1], length, device=device))
        global_condition = self.global_condition(t_U, embedded)
        condition = global_condition + sync
        latent = self.audio_input_proj(latents_BLC)
        for block in self.joint_blocks:
            latent, clip, text = block(
                latent,
                clip,
                text,
                global_condition=global_condition,
                condition_URD=condition,
                row_index=row_index,
                latent_table=latent_table,
                clip_table=clip_table,
            )
        for block in self.fused_blocks:
            latent = block(latent, condition, row_index, latent_table)
        # The official network conditions the last layer on the global vector only (upstream issue #55).
        return self.final_layer(latent, global_condition, whole)

    def forward(self, latents_BLC: Tensor, clip_f: Tensor, sync_f: Tensor, text_f: Tensor, t_B: Tensor) -> Tensor:
        """The velocity of `predict_velocity` from raw features."""
        return self.predict_velocity(latents_BLC, t_B, self.embed_conditions(clip_f, sync_f, text_f))
