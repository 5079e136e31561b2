"""Inception-v4, against the arithmetic of the paper's figures 3 to 9."""

from counting import trainable_parameters
from weightless import shapes, whole_net

from tlkit.catalog import NETS


def convolutions(*each):
    """Trainable parameters of `(height, width, inputs, filters)` each, BatchNorm's scale and offset included."""
    return sum(height * width * inputs * filters + 2 * filters for height, width, inputs, filters in each)


STEM = (
    convolutions((3, 3, 3, 32), (3, 3, 32, 32), (3, 3, 32, 64), (3, 3, 64, 96))  # 64 pooled + 96 = 160 channels
    + convolutions((1, 1, 160, 64), (3, 3, 64, 96))
    + convolutions((1, 1, 160, 64), (7, 1, 64, 64), (1, 7, 64, 64), (3, 3, 64, 96))  # 96 + 96 = 192
    + convolutions((3, 3, 192, 192))  # 192 + 192 pooled = 384
)
MODULE_A = (
    convolutions((1, 1, 384, 96))  # after the pooling
    + convolutions((1, 1, 384, 96))
    + convolutions((1, 1, 384, 64), (3, 3, 64, 96))
    + convolutions((1, 1, 384, 64), (3, 3, 64, 96), (3, 3, 96, 96))  # 4 * 96 = 384
)
REDUCTION_A = (  # k, l, m, n = 192, 224, 256, 384
    convolutions((3, 3, 384, 384)) + convolutions((1, 1, 384, 192), (3, 3, 192, 224), (3, 3, 224, 256))
)  # 384 pooled + 384 + 256 = 1024
MODULE_B = (
    convolutions((1, 1, 1024, 128))  # after the pooling
    + convolutions((1, 1, 1024, 384))
    + convolutions((1, 1, 1024, 192), (1, 7, 192, 224), (7, 1, 224, 256))
    + convolutions((1, 1, 1024, 192), (1, 7, 192, 192), (7, 1, 192, 224), (1, 7, 224, 224), (7, 1, 224, 256))
)  # 128 + 384 + 256 + 256 = 1024
REDUCTION_B = convolutions((1, 1, 1024, 192), (3, 3, 192, 192)) + convolutions(
    (1, 1, 1024, 256), (1, 7, 256, 256), (7, 1, 256, 320), (3, 3, 320, 320)
)  # 1024 pooled + 192 + 320 = 1536
MODULE_C = (
    convolutions((1, 1, 1536, 256))  # after the pooling
    + convolutions((1, 1, 1536, 256))
    + convolutions((1, 1, 1536, 384), (1, 3, 384, 256), (3, 1, 384, 256))
    + convolutions((1, 1, 1536, 384), (1, 3, 384, 448), (3, 1, 448, 512), (3, 1, 512, 256), (1, 3, 512, 256))
)  # 6 * 256 = 1536


def test_parameters_and_shapes():
    """42,679,816 is the known count, of trainable parameters with BatchNorm's scales; the paper states none."""
    model = whole_net("inception_v4")
    total = STEM + 4 * MODULE_A + REDUCTION_A + 7 * MODULE_B + REDUCTION_B + 3 * MODULE_C + 1536 * 1000 + 1000
    assert trainable_parameters(model) == total == 42_679_816
    assert model.count_params() == NETS["inception_v4"].parameters
    ends = ("stem1", "stem2", "stem", "inception_a4", "reduction_a", "inception_b7", "reduction_b", "inception_c3")
    assert shapes(model, ends) == [
        (73, 73, 160),
        (71, 71, 192),
        (35, 35, 384),
        (35, 35, 384),
        (17, 17, 1024),
        (17, 17, 1024),
        (8, 8, 1536),
        (8, 8, 1536),
    ]
