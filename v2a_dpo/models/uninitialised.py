"""Networks without initial weights, to be filled from files: drawing them takes longer than reading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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
    """The network that `build` makes, on the CPU, its drawn weights undefined: memory that nothing has touched yet.

    The meta device would serve as well, but torch's compiler, which computes constants there, takes seconds to import.
    """
    with _WithoutDraws():
        return build()
