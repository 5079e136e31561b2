"""The plain and the residual nets for CIFAR-10, of depth 6n + 2.

One convolution, 2n layers at each of three resolutions, the logits. All shortcuts are of kind A, so a residual net has
exactly the parameters of the plain one.

Reference:
    He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385, section 4.2, table 6.
"""

from tlkit.models.nets.parts import bn_relu, classify_pooled, convolve
from tlkit.models.nets.resnet import basic, shortcut_a


def cifar(image, depth, shortcut=None):
    """Build a net of units of two 3x3 convolutions at three resolutions, conv2_x to conv4_x.

    Args:
        image: KerasTensor `(batch, 32, 32, 3)`, or of other sides.
        depth: Number of layers with weights, projections aside: 6n + 2, so 8, 14, 20 and so on.
        shortcut: `shortcut_a` or another of `nets.resnet`; None for a plain net.

    Returns:
        KerasTensor `(batch, 8, 8, 64)`.

    Raises:
        ValueError: If the depth is none of these.
    """
    count, rest = divmod(depth - 2, 6)
    if count < 1 or rest:
        raise ValueError(f"`depth` must be 6n + 2, so 8, 14, 20 and so on. Received: depth={depth}")
    x = bn_relu(convolve(image, 16, 3, name="conv1_conv"), name="conv1")  # 32 x 32 x 16
    for stage, filters in enumerate((16, 32, 64), start=2):  # 32 x 32, 16 x 16, 8 x 8
        for number in range(1, count + 1):
            strides = 2 if stage > 2 and number == 1 else 1
            x = basic(x, filters, strides, shortcut, name=f"conv{stage}_{number}")
    return x  # 8 x 8 x 64


def top(features, outputs):
    """Build the outputs: `(batch, 8, 8, 64)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, kernel_initializer="he_normal")  # 64, 10


def plain20_cifar(image):
    """Build the plain net of 20 layers: see `cifar`."""
    return cifar(image, 20)


def plain32_cifar(image):
    """Build the plain net of 32 layers: see `cifar`."""
    return cifar(image, 32)


def plain44_cifar(image):
    """Build the plain net of 44 layers: see `cifar`."""
    return cifar(image, 44)


def plain56_cifar(image):
    """Build the plain net of 56 layers: see `cifar`."""
    return cifar(image, 56)


def plain110_cifar(image):
    """Build the plain net of 110 layers: see `cifar`."""
    return cifar(image, 110)


def resnet20_cifar(image):
    """Build ResNet-20: see `cifar`."""
    return cifar(image, 20, shortcut_a)


def resnet32_cifar(image):
    """Build ResNet-32: see `cifar`."""
    return cifar(image, 32, shortcut_a)


def resnet44_cifar(image):
    """Build ResNet-44: see `cifar`."""
    return cifar(image, 44, shortcut_a)


def resnet56_cifar(image):
    """Build ResNet-56: see `cifar`."""
    return cifar(image, 56, shortcut_a)


def resnet110_cifar(image):
    """Build ResNet-110: see `cifar`."""
    return cifar(image, 110, shortcut_a)
