"""Loading of released weights into networks that are built without initial ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from v2a_dpo.errors import UserError

Network = TypeVar("Network", bound=nn.Module)

_DRAWS = {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.uniform_, Tensor.normal_}


class _WithoutDraws(TorchFunctionMode):
    """Leaves out random draws and the weight norm of what was not drawn."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        if func is torch._weight_norm:
            return torch.empty_like(args[0])
        return func(*args, **kwargs)


def uninitialised(build: Callable[[], Network]) -> Network:
    """The network that `build` makes, with undefined weights where it would draw them at random.

    Drawing a billion numbers takes longer than reading them. On the CPU the memory stays untouched until the weights
    are replaced; on the meta device torch would import its compiler for some draws, which takes seconds.
    """
    with _WithoutDraws():
        return build()


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], part: str, *, remedy: str) -> None:
    """Replaces the weights of `network` by the tensors of `state`, which stay shared with it.

    Raises UserError naming the keys or shapes that differ; `part` is the network's name in the message.
    """
    try:
        network.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        what = f"The weights of the {part} do not fit its configuration: {error}"
        raise UserError(what, where=f"{part} checkpoint", remedy=remedy) from error
