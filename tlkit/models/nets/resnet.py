"""The plain and the residual nets for ImageNet.

A residual unit computes what to add to its input; a plain net is the same without the addition. Where a unit changes
the map's size, its shortcut is the identity with zeros in the new channels (A) or a projection (B); with C, all
shortcuts are projections. Bottlenecks of stride 2 have it in their first 1x1 convolution, as in 2015; later versions
moved it to the 3x3. No convolution has biases: BatchNorm follows.

Reference:
    He, Zhang, Ren & Sun 2015, https://arxiv.org/abs/1512.03385, table 1, figures 3 and 5, sections 3.3 and 4.1.
"""

from keras import layers, ops

from tlkit.models.nets.parts import batch_norm, bn_relu, classify_pooled, convolve, residual_stem


def shortcut_a(x, filters, strides, name):
    """Pass every `strides`-th pixel on as it is, with zeros in the channels that are new: no parameters."""
    if strides > 1:
        x = layers.AveragePooling2D(1, strides=strides, name=f"{name}_shortcut")(x)  # of one pixel each
    if filters == x.shape[-1]:
        return x
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, filters - x.shape[-1]]])


def shortcut_b(x, filters, strides, name):
    """Project by a 1x1 convolution where the size changes, and pass on as it is elsewhere."""
    if strides == 1 and filters == x.shape[-1]:
        return x
    return shortcut_c(x, filters, strides, name)


def shortcut_c(x, filters, strides, name):
    """Project by a 1x1 convolution, everywhere."""
    return batch_norm(convolve(x, filters, 1, strides, name=f"{name}_shortcut"))


def basic(x, filters, strides, shortcut, name):
    """Build a unit of two 3x3 convolutions: figure 5 on the left; its result is called `name`."""
    y = bn_relu(convolve(x, filters, 3, strides, name=f"{name}_conv1"))
    y = batch_norm(convolve(y, filters, 3, name=f"{name}_conv2"))
    return join(x, y, strides, shortcut, name)


def bottleneck(x, filters, strides, shortcut, name):
    """Build a unit of 1x1, 3x3 and 1x1 convolutions, four times wider outside: figure 5 on the right."""
    y = bn_relu(convolve(x, filters, 1, strides, name=f"{name}_conv1"))
    y = bn_relu(convolve(y, filters, 3, name=f"{name}_conv2"))
    y = batch_norm(convolve(y, 4 * filters, 1, name=f"{name}_conv3"))
    return join(x, y, strides, shortcut, name)


def join(x, y, strides, shortcut, name):
    """End a unit: add to its result `y` the shortcut from its input `x`, unless it is a plain one, then ReLU."""
    if shortcut is not None:
        y = layers.Add(name=f"{name}_add")([y, shortcut(x, y.shape[-1], strides, name)])
    return layers.ReLU(name=name)(y)


def resnet(image, unit, counts, shortcut):
    """Build a net of units at four resolutions, conv2_x to conv5_x.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`, or of other sides.
        unit: `basic`, `bottleneck`, or a function like them.
        counts: Number of units at each resolution.
        shortcut: `shortcut_a`, `shortcut_b`, `shortcut_c`, or None for a plain net.

    Returns:
        KerasTensor `(batch, 7, 7, 512)`; of bottlenecks 2,048 channels.
    """
    x = residual_stem(image)  # 56 x 56 x 64
    for stage, count in enumerate(counts, start=2):  # 56 x 56, 28 x 28, 14 x 14, 7 x 7
        for number in range(1, count + 1):
            strides = 2 if stage > 2 and number == 1 else 1
            x = unit(x, 16 * 2**stage, strides, shortcut, name=f"conv{stage}_{number}")
    return x  # 7 x 7 x 512 or 2048


def top(features, outputs):
    """Build the outputs: `(batch, 7, 7, channels)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, kernel_initializer="he_normal")  # 512 or 2048, 1000


def plain18(image):
    """Build the plain net of 18 layers: see `resnet`."""
    return resnet(image, basic, (2, 2, 2, 2), None)


def plain34(image):
    """Build the plain net of 34 layers: see `resnet`."""
    return resnet(image, basic, (3, 4, 6, 3), None)


def resnet18_a(image):
    """Build ResNet-18 with zero-padded shortcuts: see `resnet`."""
    return resnet(image, basic, (2, 2, 2, 2), shortcut_a)


def resnet18_b(image):
    """Build ResNet-18 with projections where sizes change: see `resnet`."""
    return resnet(image, basic, (2, 2, 2, 2), shortcut_b)


def resnet34_a(image):
    """Build ResNet-34 with zero-padded shortcuts: see `resnet`."""
    return resnet(image, basic, (3, 4, 6, 3), shortcut_a)


def resnet34_b(image):
    """Build ResNet-34 with projections where sizes change: see `resnet`."""
    return resnet(image, basic, (3, 4, 6, 3), shortcut_b)


def resnet34_c(image):
    """Build ResNet-34 with projections everywhere: see `resnet`."""
    return resnet(image, basic, (3, 4, 6, 3), shortcut_c)


def resnet50_b(image):
    """Build ResNet-50 with projections where sizes change: see `resnet`."""
    return resnet(image, bottleneck, (3, 4, 6, 3), shortcut_b)


def resnet101_b(image):
    """Build ResNet-101 with projections where sizes change: see `resnet`."""
    return resnet(image, bottleneck, (3, 4, 23, 3), shortcut_b)


def resnet152_b(image):
    """Build ResNet-152 with projections where sizes change: see `resnet`."""
    return resnet(image, bottleneck, (3, 8, 36, 3), shortcut_b)
