"""MMAudio's mel autoencoder: log-mel spectrograms to short latents and back, on magnitude-preserving convolutions.

Letters in tensor names: B batch, C channels, T positions in time, M mel bands, E latent channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from v2a_dpo.models.loading import load_strictly

_ACTIVATION_LIMIT = 256.0


@dataclass(frozen=True)
class MelVAEConfig:
    """The sizes of a mel autoencoder; `mel_mean` and `mel_std` are the per-band constants of its training data."""

    num_mels: int
    latent_channels: int
    width: int
    mel_mean: tuple[float, ...]
    mel_std: tuple[float, ...]

    @staticmethod
    def official(name: str) -> MelVAEConfig:
        """The released autoencoder `16k` or `44k`."""
        statistics = json.loads(resources.files(__package__).joinpath("mel_statistics.json").read_text())[name]
        latent_channels, width = {"16k": (20, 384), "44k": (40, 512)}[name]
        mean, std = tuple(statistics["mean"]), tuple(statistics["std"])
        return MelVAEConfig(len(mean), latent_channels, width, mean, std)


def _rms_normalize(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """`x` divided by its root mean square over `axes`, which a small constant keeps from vanishing."""
    return x / (1e-4 + x.square().mean(dim=axes, keepdim=True).sqrt())


def _mp_silu(x: Tensor) -> Tensor:
    """SiLU that keeps the magnitude of a unit Gaussian."""
    return F.silu(x) / 0.596


def _mp_add(x: Tensor, residual: Tensor) -> Tensor:
    """`x` and 30% of `residual` mixed so that two independent unit magnitudes give a unit magnitude."""
    return (0.7 * x + 0.3 * residual) / (0.7**2 + 0.3**2) ** 0.5


class _Conv(nn.Conv1d):
    """A convolution of `[B, C, T]` without bias that keeps the length; `normalize_weight` must run once before use."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)

    def normalize_weight(self) -> None:
        raw = self.weight.detach().float()
        self.weight = nn.Parameter(_rms_normalize(raw, (1, 2)) / raw[0].numel() ** 0.5, requires_grad=False)


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _Conv(in_channels, out_channels, 3)
        self.conv2 = _Conv(out_channels, out_channels, 3)
        self.nin_shortcut = _Conv(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x_BCT: Tensor) -> Tensor:
        x_BCT = _rms_normalize(x_BCT, 1)
        residual = self.conv2(_mp_silu(self.conv1(_mp_silu(x_BCT))))
        if self.nin_shortcut is not None:
            x_BCT = self.nin_shortcut(x_BCT)
        return _mp_add(x_BCT, residual)


class _AttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = _Conv(channels, 3 * channels, 1)
        self.proj_out = _Conv(channels, channels, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        # The outputs are ordered (channel, {q, k, v}) with the last one fastest.
        qkv = _rms_normalize(self.qkv(x_BCT).unflatten(1, (-1, 3)), 1)
        q_BTC, k_BTC, v_BTC = qkv.permute(2, 0, 3, 1).unbind(0)
        attended_BTC = F.scaled_dot_product_attention(q_BTC, k_BTC, v_BTC)
        return _mp_add(x_BCT, self.proj_out(attended_BTC.transpose(1, 2)))


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = _ResidualBlock(channels, channels)
        self.attn_1 = _AttentionBlock(channels)
        self.block_2 = _ResidualBlock(channels, channels)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x_BCT))).clamp(-_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)


class _Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _Conv(channels, channels, 1)
        self.conv2 = _Conv(channels, channels, 1)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.conv2(F.avg_pool1d(self.conv1(x_BCT), 2))


class _Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _Conv(channels, channels, 3)

    def forward(self, x_BCT: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCT, scale_factor=2.0, mode="nearest-exact"))


class _Level(nn.Module):
    """Residual blocks of one width, and the change of the time resolution behind them if there is one."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            _ResidualBlock(in_channels if i == 0 else channels, channels) for i in range(num_blocks)
        )
        self.downsample: _Down | None = None
        self.upsample: _Up | None = None

    def forward(self, x_BCT: Tensor) -> Tensor:
        for block in self.block:
            x_BCT = block(x_BCT).clamp(-_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)
        for resample in (self.downsample, self.upsample):
            if resample is not None:
                x_BCT = resample(x_BCT)
        return x_BCT


class _Encoder(nn.Module):
    def __init__(self, config: MelVAEConfig) -> None:
        super().__init__()
        w = config.width
        self.learnable_gain = nn.Parameter(torch.zeros([]))
        self.conv_in = _Conv(config.num_mels, w, 3)
        self.down = nn.ModuleList([_Level(w, w, 2), _Level(w, 2 * w, 2), _Level(2 * w, 4 * w, 2)])
        self.down[0].downsample = _Down(w)
        self.mid = _Middle(4 * w)
        self.conv_out = _Conv(4 * w, 2 * config.latent_channels, 3)

    def forward(self, mel_BMT: Tensor) -> Tensor:
        x_BCT = self.conv_in(mel_BMT)
        for level in self.down:
            x_BCT = level(x_BCT)
        return self.conv_out(_mp_silu(self.mid(x_BCT)))


class _Decoder(nn.Module):
    def __init__(self, config: MelVAEConfig) -> None:
        super().__init__()
        w = config.width
        self.learnable_gain = nn.Parameter(torch.zeros([]))
        self.conv_in = _Conv(config.latent_channels, 4 * w, 3)
        self.mid = _Middle(4 * w)
        self.up = nn.ModuleList([_Level(2 * w, w, 3), _Level(4 * w, 2 * w, 3), _Level(4 * w, 4 * w, 3)])
        self.up[1].upsample = _Up(2 * w)
        self.conv_out = _Conv(w, config.num_mels, 3)

    def forward(self, latent_BET: Tensor) -> Tensor:
        x_BCT = self.mid(self.conv_in(latent_BET))
        for level in reversed(self.up):
            x_BCT = level(x_BCT)
        return self.conv_out(_mp_silu(x_BCT))


@torch.no_grad()
def _normalize_weights(half: _Encoder | _Decoder) -> None:
    """Normalises the weights of a half and folds its learnt output gain in, once per load."""
    for module in half.modules():
        if isinstance(module, _Conv):
            module.normalize_weight()
    half.conv_out.weight = nn.Parameter(half.conv_out.weight * (half.learnable_gain + 1), requires_grad=False)


class MelVAE(nn.Module):
    """The mel autoencoder, with the official parameter names; weights come in by `load_checkpoint` alone.

    The files hold raw weights, while the convolutions need normalised ones, and a second normalisation changes them.
    So the state dict of a loaded autoencoder is not a checkpoint: save the file it came from instead.
    """

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, config: MelVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        self._encoder_is_raw = False
        self.register_buffer("data_mean", torch.tensor(config.mel_mean).reshape(1, -1, 1))
        self.register_buffer("data_std", torch.tensor(config.mel_std).reshape(1, -1, 1))

    @torch.no_grad()
    def load_checkpoint(self, state: Mapping[str, Tensor]) -> None:
        """Loads a released state dict strictly, normalises every weight, and folds the learnt output gains in.

        The encoder's weights, which most programs never use, are normalised when it is first called. The autoencoder
        takes the tensors over; `state` stays as it is.
        Raises `UserError` naming the keys or shapes that differ.
        """
        load_strictly(
            self, state, "autoencoder", remedy="Take the file of the same sample rate (v1-16.pth or v1-44.pth)."
        )
        _normalize_weights(self.decoder)
        self._encoder_is_raw = True

    def normalize_mel(self, mel_BMT: Tensor) -> Tensor:
        """The log-mel shifted and scaled per band to the training data's zero mean and unit variance."""
        return (mel_BMT - self.data_mean) / self.data_std

    def encode_normalized(self, mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, E, T/2]` of the posterior of a mel that `normalize_mel` made."""
        if self._encoder_is_raw:
            _normalize_weights(self.encoder)
            self._encoder_is_raw = False
        mean, log_variance = self.encoder(mel_BMT).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode(self, mel_BMT: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance `[B, E, T/2]` of the posterior of a log-mel `[B, M, T]`, T even."""
        return self.encode_normalized(self.normalize_mel(mel_BMT))

    def decode(self, latent_BET: Tensor) -> Tensor:
        """The log-mel `[B, M, 2T]` of a latent."""
        return self.decoder(latent_BET) * self.data_std + self.data_mean
