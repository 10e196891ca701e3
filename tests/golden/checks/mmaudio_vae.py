"""Golden checks of MMAudio's mel autoencoder: layouts, data statistics, stored and filled weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

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
from v2a_dpo.models.mmaudio.vae import MelVAE, MelVAEConfig

#: Levels 0 to 2 exist; attention is configured for a level that does not.
_NO_ATTENTION_FROM = 3


def check(file: Path) -> Iterator[Result]:
    """The results of one json file."""
    case = Case.load(file)
    if "config" in case.facts:
        yield from check_tiny(case)
    elif "outputs" in case.facts:
        yield from check_filled(case)
    else:
        for name, facts in case.facts.items():
            config = MelVAEConfig.official(name)
            if "entries" in facts:
                with torch.device("meta"):
                    autoencoder = MelVAE(config)
                yield from check_layout(f"{case.stem}: {name}", autoencoder, facts)
            else:
                ours = {"num_mels": config.num_mels, "mean": list(config.mel_mean), "std": list(config.mel_std)}
                golden = {key: facts[key] for key in ours}
                yield equal(f"{case.stem}: {name}", ours, golden)


def check_tiny(case: Case) -> Iterator[Result]:
    """A configuration of its own, with stored inputs."""
    given = case.facts["config"]
    if any(level < _NO_ATTENTION_FROM for level in given.get("attn_layers", [])):
        raise UnknownCaseError(f"attention in levels {given['attn_layers']}")
    mean, std = tuple(given["data_mean"]), tuple(given["data_std"])
    config = MelVAEConfig(given["data_dim"], given["embed_dim"], given["hidden_dim"], mean, std)
    yield from AutoencoderCase(case, config, case.group("weights"), case.inputs).results()


def check_filled(case: Case) -> Iterator[Result]:
    """Released sizes with filled weights; an output's name starts with the codec's."""
    codecs = sorted({name.split(".")[0] for name in case.outputs})
    for codec in codecs:
        config = MelVAEConfig.official(codec)
        inputs: dict[str, Tensor] = {}
        mean, std = (torch.tensor(values).reshape(1, -1, 1) for values in (config.mel_mean, config.mel_std))
        for name, result in case.outputs.items():
            batch, _, length = result.shape
            if name == f"{codec}.decode":
                shape = (batch, config.latent_channels, length // 2)
                inputs["z"] = fill_input(f"full.{codec}.z", shape, case.fill_seed)
            elif name.startswith(codec + "."):
                shape = (batch, config.num_mels, 2 * length)
                inputs["mel"] = mean + std * fill_input(f"full.{codec}.mel", shape, case.fill_seed)
        with torch.device("meta"):
            state = filled_state(MelVAE(config), case.fill_seed)
        state |= {"data_mean": mean, "data_std": std}
        yield from check_filling(f"{case.stem}: {codec}", state, case.facts["weights"]["check"].get(codec, {}))
        yield from AutoencoderCase(case, config, state, inputs).results(prefix=f"{codec}.")


class AutoencoderCase:
    """One autoencoder with its inputs, and our value of every output by its name."""

    def __init__(self, case: Case, config: MelVAEConfig, state: dict[str, Tensor], inputs: dict[str, Tensor]) -> None:
        self.case, self.inputs = case, inputs
        with torch.device("meta"):
            self.vae = MelVAE(config)
        self.vae.load_checkpoint(state)
        self.vae.eval()

    def results(self, *, prefix: str = "") -> Iterator[Result]:
        """All results of the case whose outputs start with `prefix`."""
        yield from self.case.compare_outputs(self.output, prefix=prefix)

    @cached_property
    def posterior(self) -> tuple[Tensor, Tensor]:
        return self.vae.encode(self.inputs["mel"])

    @cached_property
    def std(self) -> Tensor:
        return (0.5 * self.posterior[1]).exp()

    def stage(self, network: nn.Module, path: str, given: Tensor) -> Tensor:
        """What the module at `path` inside `network` puts out when the network runs on `given`."""
        try:
            module = network.get_submodule(path)
        except AttributeError as error:
            raise UnknownCaseError(path) from error
        seen: list[Tensor] = []
        handle = module.register_forward_hook(lambda *call: seen.append(call[-1]))
        network(given)
        handle.remove()
        return seen[0]

    def output(self, name: str) -> Tensor:
        """Our value of the output `name`."""
        vae, inputs = self.vae, self.inputs
        half, _, path = name.partition(".")
        if half == "dec":
            return self.stage(vae.decoder, path, inputs["z"])
        if half == "enc":
            return self.stage(vae.encoder, path, vae.normalize_mel(inputs["mel"]))
        plain: dict[str, Callable[[], Tensor]] = {
            "mean": lambda: self.posterior[0],
            "mode": lambda: self.posterior[0],
            "logvar": lambda: self.posterior[1],
            "std": lambda: self.std,
            "sample_with_eps": lambda: self.posterior[0] + self.std * inputs["eps"],
            "encode_unnormalized_input.mean": lambda: vae.encode_normalized(inputs["mel"])[0],
            "decode": lambda: vae.decode(inputs["z"]),
            "decode_raw": lambda: vae.decoder(inputs["z"]),
            "recon": lambda: vae.decode(self.posterior[0]),
            "normalized_mel": lambda: vae.normalize_mel(inputs["mel"]),
        }
        if name not in plain:
            raise UnknownCaseError(name)
        return plain[name]()
