"""The Flow-DPO loss as pure functions of tensors (paper Eq. 5, corrected).

Letters in tensor names: B pairs of a batch, L latent length, C latent channels; `2B` is `[winners; losers]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def velocity_errors(predicted_BLC: Tensor, target_BLC: Tensor) -> Tensor:
    """The squared error of each row, **mean** over latent steps and channels, float32 `[B]`.

    The mean is what gives beta = 600 its meaning: a sum over D dimensions would act like a beta D times as large
    (13,800 for 8 s of MMAudio 44k). All clips of a run last equally long, so every latent step is a valid one.
    """
    return (predicted_BLC.float() - target_BLC.float()).square().mean(dim=(1, 2))


@dataclass(frozen=True)
class FlowDPO:
    """The loss of a batch of pairs (a scalar) and what it is made of, `[B]` each.

    A difference is policy error minus reference error: negative where the policy got better. `z` is the implicit
    reward margin inside the sigmoid, positive where the policy prefers the winner more than the reference does.
    """

    loss: Tensor
    z: Tensor
    winner_difference: Tensor
    loser_difference: Tensor

    @property
    def implicit_accuracy(self) -> float:
        """The share of pairs with a positive margin; a margin of zero counts one half."""
        return ((self.z > 0).float() + 0.5 * (self.z == 0).float()).mean().item()


def flow_dpo(policy_2B: Tensor, reference_2B: Tensor, *, beta: float) -> FlowDPO:
    """The Flow-DPO loss of velocity errors `[2B]`, winners first, of the policy and of the frozen reference:

        loss = - mean_B log sigmoid( -(beta / 2) [(e_w - e_w_ref) - (e_l - e_l_ref)] )

    The errors are means over latent dimensions (`velocity_errors`); beta is constant in t; the four errors of a pair
    share one t and one noise. The paper's printed Eq. 5 lacks the outer bracket: beta would weigh the winner alone, and
    the loser would enter with the wrong sign. With policy = reference: z = 0, loss = ln 2, and the derivative by each
    winner's error is +beta / (4 B), by each loser's -beta / (4 B).
    """
    winner_difference_B, loser_difference_B = (policy_2B - reference_2B).chunk(2)
    z_B = -(beta / 2) * (winner_difference_B - loser_difference_B)
    return FlowDPO(-F.logsigmoid(z_B).mean(), z_B, winner_difference_B, loser_difference_B)


def absolute_quantile(z_B: Tensor, quantile: float) -> float:
    """The quantile of |z| over the pairs; the sigmoid is saturated where it is far above 1."""
    return torch.quantile(z_B.detach().abs().float(), quantile).item()
