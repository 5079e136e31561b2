"""Plain and residual nets for CIFAR-10, against the paper's table 6."""

import keras
import pytest
from counting import depth, trainable_parameters
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.models.nets.resnet_cifar import cifar

MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}  # table 6


def trainable(n):
    """Weights of the convolutions, two values of BatchNorm per channel, and the logits, for a depth of 6n + 2."""
    first = 3 * 3 * 3 * 16 + 2 * 16
    at_32 = 2 * n * (3 * 3 * 16 * 16 + 2 * 16)
    at_16 = 3 * 3 * 16 * 32 + 2 * 32 + (2 * n - 1) * (3 * 3 * 32 * 32 + 2 * 32)
    at_8 = 3 * 3 * 32 * 64 + 2 * 64 + (2 * n - 1) * (3 * 3 * 64 * 64 + 2 * 64)
    return first + at_32 + at_16 + at_8 + 64 * 10 + 10


@pytest.mark.parametrize("layers_deep", MILLIONS)
def test_parameters_and_depth(layers_deep):
    """The plain net and the residual one have the same, and the millions are the paper's.

    At 110 layers these are 1.73 million, where table 6 says 1.7.
    """
    n = (layers_deep - 2) // 6
    plain, residual = (whole_net(f"{kind}{layers_deep}_cifar") for kind in ("plain", "resnet"))
    assert trainable_parameters(plain) == trainable_parameters(residual) == trainable(n)
    assert [weight.shape for weight in plain.weights] == [weight.shape for weight in residual.weights]
    assert plain.count_params() == NETS[plain.name].parameters == NETS[residual.name].parameters
    assert depth(plain) == depth(residual) == layers_deep
    assert trainable(n) / 1e6 == pytest.approx(MILLIONS[layers_deep], abs=0.05 if layers_deep == 110 else 0.005)


@pytest.mark.parametrize("name", ["plain20_cifar", "resnet20_cifar"])
def test_shapes(name):
    ends = [(32, 32, 16), (32, 32, 16), (16, 16, 32), (8, 8, 64)]
    assert shapes(whole_net(name), ["conv1", "conv2_3", "conv3_3", "conv4_3"]) == ends


@pytest.mark.parametrize("layers_deep", [2, 19, 21])
def test_other_depths_are_refused(layers_deep):
    with pytest.raises(ValueError, match=f"must be 6n \\+ 2.* Received: depth={layers_deep}"):
        cifar(keras.Input((32, 32, 3)), layers_deep)
