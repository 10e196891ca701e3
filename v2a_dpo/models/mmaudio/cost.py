"""The costs of an MMAudio variant: parameters, memory, and floating-point operations, counted on the networks.

The networks run on the meta device: nothing is computed and no weights are needed.
Operations count a multiply-add as two, and only matrix products, convolutions and attention of the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from v2a_dpo.models.antialiased import AntiAliasedActivation
from v2a_dpo.models.loading import uninitialised
from v2a_dpo.models.mmaudio.codec import OFFICIAL_CODECS, MelCodec
from v2a_dpo.models.mmaudio.config import MMAudioConfig
from v2a_dpo.models.mmaudio.encoders import MMAudioEncoders
from v2a_dpo.models.mmaudio.network import MMAudioNetwork
from v2a_dpo.models.mmaudio.sequence import CLIP_STREAM, SYNC_STREAM, Sequences
from v2a_dpo.models.vocoder import Vocoder

#: Bytes a trained parameter takes in either precision: weight, gradient and AdamW's two moments in float32; or weight
#: and gradient in bfloat16, and the master weight and the moments in float32.
TRAINED_BYTES = 16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Operations:
    """Floating-point operations by part, for one clip of one duration."""

    #: One velocity call for one candidate in one guidance branch, modulations on the distinct synchronisation rows
    #: only.
    velocity: int
    #: The network's own embedding of a clip's conditions.
    embedding: int
    #: CLIP pictures, Synchformer segments and the prompt: once per clip.
    features: int
    #: Autoencoder and vocoder, once per candidate; the vocoder's activations are left out.
    decoding: int

    def candidate(self, *, steps: int, guided: bool = True) -> int:
        """Operations of one candidate from noise to audio, the clip's features left out."""
        calls = steps * (2 if guided else 1)
        return calls * self.velocity + self.decoding


@dataclass(frozen=True)
class Memory:
    """Bytes that weights, gradients and optimizer take in one precision, and per row of a training batch."""

    inference: int
    lora: int
    full_training: int
    #: Kept for the backward pass for each row; a pair is two rows. Attention is counted as the fused kernels keep it.
    activations_per_row: int


@dataclass(frozen=True)
class Sizes:
    """Parameters of the velocity network, those of them that are trained, of its LoRA adapter, and of the frozen
    parts."""

    network: int
    trainable: int
    lora: int
    frozen: int


def _leave_activations_out(vocoder: Vocoder) -> None:
    """Takes the anti-aliased activations out: their filters (1.5% of the vocoder) run in other ways on other
    devices."""
    for module in list(vocoder.generator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, AntiAliasedActivation):
                setattr(module, name, nn.Identity())


def _count(call: Callable[[], object]) -> int:
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class MMAudioCost:
    """The costs of a variant with the released encoders and the codec called `codec`, for clips of `duration_s`
    seconds."""

    def __init__(self, config: MMAudioConfig, codec: str, *, duration_s: float = 8.0) -> None:
        self.config = config
        with torch.device("meta"):
            # Constants that are computed stay on the CPU until they are moved.
            self._network = uninitialised(lambda: MMAudioNetwork(config)).to("meta")
            self._encoders = uninitialised(MMAudioEncoders).to("meta")
            self._codec = uninitialised(lambda: MelCodec.official(codec)).to("meta")
        self._frozen = _parameters(self._encoders) + _parameters(self._codec)
        _leave_activations_out(self._codec.vocoder)
        sequences = Sequences.official(OFFICIAL_CODECS[codec][0])
        self.latent_length = sequences.latent_length(duration_s)
        self.clip_length, self.sync_length = sequences.feature_lengths(duration_s)
        self._duration_s = duration_s

    def sizes(self, *, lora_rank: int) -> Sizes:
        """Parameters; the adapter has rank `lora_rank` on every linear map inside the transformer blocks."""
        blocks = [self._network.joint_blocks, self._network.fused_blocks]
        linear = [layer for part in blocks for layer in part.modules() if isinstance(layer, nn.Linear)]
        return Sizes(
            network=_parameters(self._network),
            trainable=sum(p.numel() for p in self._network.parameters() if p.requires_grad),
            lora=sum(lora_rank * (layer.in_features + layer.out_features) for layer in linear),
            frozen=self._frozen,
        )

    def operations(self) -> Operations:
        """Operations for one clip, batch 1."""
        network, encoders, codec = self._network, self._encoders, self._codec
        latents = torch.empty(1, self.latent_length, self.config.latent_channels, device="meta")
        time, raw = torch.empty(1, device="meta"), self._raw_conditions(torch.float32)
        embedded = network.embed_conditions(*raw)
        frame = torch.empty(1, 1, 3, CLIP_STREAM.height, CLIP_STREAM.width, device="meta")
        tokens = torch.zeros(1, encoders.clip.config.text.context_length, dtype=torch.long, device="meta")
        encoders.clip.clip.attn_mask = encoders.clip.clip.attn_mask.to("meta")  # no buffer, so it stayed behind
        num_segments = encoders.sync.config.num_segments(SYNC_STREAM.num_frames(self._duration_s))
        size = encoders.sync.config.image_size
        segment = torch.empty(1, 1, encoders.sync.config.segment_frames, 3, size, size, device="meta")
        features = (
            self.clip_length * _count(lambda: encoders.clip.frames(frame))
            + num_segments * _count(lambda: encoders.sync(segment))
            + _count(lambda: encoders.clip.text(tokens))
        )
        return Operations(
            velocity=_count(lambda: network.predict_velocity(latents, time, embedded)),
            embedding=_count(lambda: network.embed_conditions(*raw)),
            features=features,
            decoding=_count(lambda: codec.decode(latents)),
        )

    def memory(self, precision: str, *, lora_rank: int) -> Memory:
        """Memory in `float32` or `bfloat16`, without a forward pass's temporary tensors.

        Training needs neither encoders nor codec, nor a second network: the reference's errors are computed beforehand.
        """
        width = DTYPES[precision].itemsize
        sizes = self.sizes(lora_rank=lora_rank)
        return Memory(
            inference=width * (sizes.network + sizes.frozen),
            lora=width * sizes.network + TRAINED_BYTES * sizes.lora,
            full_training=TRAINED_BYTES * sizes.trainable + width * (sizes.network - sizes.trainable),
            activations_per_row=self._activations(DTYPES[precision]),
        )

    def _raw_conditions(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c = self.config
        shapes = ((self.clip_length, c.clip_dim), (self.sync_length, c.sync_dim), (c.text_length, c.text_dim))
        clip, sync, text = (torch.empty(1, *shape, dtype=dtype, device="meta") for shape in shapes)
        return clip, sync, text

    def _activations(self, dtype: torch.dtype) -> int:
        """Bytes that one row's forward pass keeps for its backward pass, the weights themselves left out."""
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
            return tensor

        # Unlike the meta device, fake tensors of a real one take the fused attention, which keeps no matrix of weights.
        with FakeTensorMode(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network = MMAudioNetwork(self.config)
            state = {key: torch.empty(value.shape, dtype=dtype) for key, value in network.state_dict().items()}
            network.load_state_dict(state, assign=True)
            clip, sync, text = (torch.empty(row.shape, dtype=dtype) for row in self._raw_conditions(dtype))
            latents = torch.empty(1, self.latent_length, self.config.latent_channels, dtype=dtype)
            output = network(latents, clip, sync, text, torch.empty(1))
            for parameter in network.parameters():
                kept.pop(parameter.untyped_storage()._cdata, None)
            total = sum(storage.nbytes() for storage in kept.values())
        # Freed storages would share addresses, so everything lives until here.
        del output
        return total
