"""Residual nets with pre-activation: BatchNorm and ReLU come before the convolutions, nothing comes after the addition.

The first activation comes right after conv1, before the two ways part; a last one after the last addition. Where a
projection has to change the size, it starts, like the rest of its unit, after the activation, as in the authors' code;
identities, zero-padded ones among them, start before it, as the paper's equation 1 says.

Reference:
    He, Zhang, Ren & Sun 2016, https://arxiv.org/abs/1603.05027, figures 1b and 4e, tables 2 to 4, appendix.
"""

from keras import layers

from tlkit.models.nets.parts import bn_relu, classify_pooled, convolve, residual_stem
from tlkit.models.nets.resnet import shortcut_a


def basic(x, filters, strides, first, name):
    """Build a unit of two 3x3 convolutions with a shortcut A; its result, a sum, is called `name`."""
    activated = x if first else bn_relu(x)
    y = bn_relu(convolve(activated, filters, 3, strides, name=f"{name}_conv1"))
    y = convolve(y, filters, 3, name=f"{name}_conv2")
    return layers.Add(name=name)([y, shortcut_a(x, filters, strides, name)])


def bottleneck(x, filters, strides, first, name):
    """Build a unit of 1x1, 3x3 and 1x1 convolutions, four times wider outside; it projects where the size changes."""
    activated = x if first else bn_relu(x)
    y = bn_relu(convolve(activated, filters, 1, strides, name=f"{name}_conv1"))
    y = bn_relu(convolve(y, filters, 3, name=f"{name}_conv2"))
    y = convolve(y, 4 * filters, 1, name=f"{name}_conv3")
    if x.shape[-1] != 4 * filters:
        x = convolve(activated, 4 * filters, 1, strides, name=f"{name}_shortcut")
    return layers.Add(name=name)([y, x])


def units(x, unit, widths, counts):
    """Build the residual units and the last activation.

    Args:
        x: KerasTensor `(batch, height, width, channels)`: conv1, activated.
        unit: `basic` or `bottleneck`.
        widths: At each resolution, first one first; both sides halve from one to the next.
        counts: Number of units at each.

    Returns:
        KerasTensor: the last sum, activated, called `post_relu`.
    """
    for stage, (filters, count) in enumerate(zip(widths, counts, strict=True), start=2):
        for number in range(1, count + 1):
            strides = 2 if stage > 2 and number == 1 else 1
            x = unit(x, filters, strides, stage == 2 and number == 1, name=f"conv{stage}_{number}")
    return bn_relu(x, name="post_relu")


def imagenet(image, counts):
    """Build a net of bottlenecks: `(batch, 224, 224, 3)`, or other sides, to `(batch, 7, 7, 2048)`.

    Args:
        image: KerasTensor.
        counts: Number of units at each of four resolutions.

    Returns:
        KerasTensor.
    """
    x = residual_stem(image)  # 56 x 56 x 64
    return units(x, bottleneck, (64, 128, 256, 512), counts)  # 56 x 56, 28 x 28, 14 x 14, 7 x 7 x 2048


def cifar(image, unit, count):
    """Build a net for CIFAR-10: `(batch, 32, 32, 3)`, or other sides, to `(batch, 8, 8, 64 or 256)`.

    Args:
        image: KerasTensor.
        unit: `basic` for a depth of 6n + 2, `bottleneck` for one of 9n + 2.
        count: The n of these: number of units at each of three resolutions.

    Returns:
        KerasTensor.
    """
    x = bn_relu(convolve(image, 16, 3, name="conv1_conv"), name="conv1")  # 32 x 32 x 16
    return units(x, unit, (16, 32, 64), (count,) * 3)  # 32 x 32, 16 x 16, 8 x 8


def top(features, outputs):
    """Build the outputs: `(batch, height, width, channels)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, kernel_initializer="he_normal")


def preact_resnet50(image):
    """Build the pre-activation ResNet-50: see `imagenet`."""
    return imagenet(image, (3, 4, 6, 3))


def preact_resnet20_cifar(image):
    """Build the pre-activation ResNet-20: see `cifar`."""
    return cifar(image, basic, 3)


def preact_resnet56_cifar(image):
    """Build the pre-activation ResNet-56: see `cifar`."""
    return cifar(image, basic, 9)


def preact_resnet110_cifar(image):
    """Build the pre-activation ResNet-110: see `cifar`."""
    return cifar(image, basic, 18)


def preact_resnet164_cifar(image):
    """Build the pre-activation ResNet-164, of bottlenecks: see `cifar`."""
    return cifar(image, bottleneck, 18)
