import pytest
import torch

from v2a_dpo.artifacts.code import code_of
from v2a_dpo.models.mmaudio.blocks import TimeConv1d
from v2a_dpo.models.mmaudio.model import MMAudioModel
from v2a_dpo.models.mmaudio.winograd import WinogradConv1d


def rms(tensor):
    return tensor.square().mean().sqrt()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_the_winograd_convolution_is_the_convolution(dtype, tolerance, length, bias):
    torch.manual_seed(length)
    conv = TimeConv1d(12, 5, 3, bias=bias).requires_grad_(False)
    x = torch.randn(3, length, 12)
    got = WinogradConv1d(conv, dtype)(x)
    assert got.shape == (3, length, 5)
    assert rms(got.float() - conv(x)) < tolerance * rms(conv(x))


def test_a_change_of_the_winograd_convolution_changes_the_code_of_candidates():
    functions = code_of(MMAudioModel.prepare_for_sampling).functions
    assert {"WinogradConv1d", "round_weights"} <= {name.split(".")[0] for name in functions}
