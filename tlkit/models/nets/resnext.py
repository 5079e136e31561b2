"""ResNeXt: residual nets whose 3x3 convolutions see their channels in groups.

Reference:
    Xie, Girshick, Dollár, Tu & He 2016, https://arxiv.org/abs/1611.05431, table 1, figure 3c, section 5.
"""

from tlkit.models.nets import resnet
from tlkit.models.nets.parts import batch_norm, bn_relu, convolve


def resnext50(image):
    """Build ResNeXt-50 (32x4d): see `resnext`."""
    return resnext(image, (3, 4, 6, 3))


def resnext101(image):
    """Build ResNeXt-101 (32x4d): see `resnext`."""
    return resnext(image, (3, 4, 23, 3))


def resnext(image, counts, *, cardinality=32, width=4):
    """Build a ResNeXt with shortcuts B.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`, or of other sides.
        counts: Number of units at each of four resolutions.
        cardinality: Number of groups.
        width: Channels of a group in conv2_x; they double with each resolution.

    Returns:
        KerasTensor `(batch, 7, 7, 2048)`.
    """

    def unit(x, filters, strides, shortcut, name):
        inside = cardinality * width * filters // 64  # in conv2_x 32 groups of 4: 128
        y = bn_relu(convolve(x, inside, 1, name=f"{name}_conv1"))
        y = bn_relu(convolve(y, inside, 3, strides, groups=cardinality, name=f"{name}_conv2"))  # here is the stride
        y = batch_norm(convolve(y, 4 * filters, 1, name=f"{name}_conv3"))
        return resnet.join(x, y, strides, shortcut, name)

    return resnet.resnet(image, unit, counts, resnet.shortcut_b)


def top(features, outputs):
    """Build the outputs: `(batch, 7, 7, 2048)` to a dict of logits by the name of the output."""
    return resnet.top(features, outputs)  # 2048, 1000
