"""DenseNet-BC: every layer of a dense block sees the maps of all the block's layers before it.

BC: with bottlenecks, 1x1 convolutions to four times the growth rate, and compression, transitions that halve the
channels. BatchNorm and ReLU come before each convolution, which has no biases.

Reference:
    Huang, Liu, van der Maaten & Weinberger 2016, https://arxiv.org/abs/1608.06993, table 1, section 3.
"""

from keras import layers

from tlkit.models.nets.parts import bn_relu, classify_pooled, convolve, residual_stem


def densenet121_bc(image):
    """Build DenseNet-121: see `imagenet`."""
    return imagenet(image, (6, 12, 24, 16), growth=32)


def densenet161_bc(image):
    """Build DenseNet-161: see `imagenet`."""
    return imagenet(image, (6, 12, 36, 24), growth=48)


def densenet169_bc(image):
    """Build DenseNet-169: see `imagenet`."""
    return imagenet(image, (6, 12, 32, 32), growth=32)


def densenet201_bc(image):
    """Build DenseNet-201: see `imagenet`."""
    return imagenet(image, (6, 12, 48, 32), growth=32)


def densenet100_bc_cifar(image):
    """Build the DenseNet-BC of 100 layers and growth rate 12 for CIFAR-10: see `cifar`."""
    return cifar(image, depth=100, growth=12)


def imagenet(image, counts, growth):
    """Build a net of four dense blocks: `(batch, 224, 224, 3)`, or other sides, to `(batch, 7, 7, channels)`.

    Args:
        image: KerasTensor.
        counts: Number of layers, each of two convolutions, in each block.
        growth: Channels that each layer adds.

    Returns:
        KerasTensor.
    """
    return dense_blocks(residual_stem(image, 2 * growth), counts, growth)  # 56 x 56, 28 x 28, 14 x 14, 7 x 7


def cifar(image, depth, growth):
    """Build a net of three equal dense blocks: `(batch, 32, 32, 3)`, or other sides, to `(batch, 8, 8, channels)`.

    Args:
        image: KerasTensor.
        depth: Number of layers with weights: 6n + 4, for blocks of n layers of two convolutions.
        growth: Channels that each layer adds.

    Returns:
        KerasTensor.

    Raises:
        ValueError: If the depth is none of these.
    """
    count, rest = divmod(depth - 4, 6)
    if count < 1 or rest:
        raise ValueError(f"`depth` must be 6n + 4, so 10, 16, 22 and so on. Received: depth={depth}")
    x = convolve(image, 2 * growth, 3, name="conv1")  # 32 x 32 x 24
    return dense_blocks(x, (count,) * 3, growth)  # 32 x 32, 16 x 16, 8 x 8 x 342


def dense_blocks(x, counts, growth):
    """Build dense blocks with transitions between them, and the last activation.

    Args:
        x: KerasTensor `(batch, height, width, channels)`.
        counts: Number of layers in each block.
        growth: Channels that each layer adds.

    Returns:
        KerasTensor: the last block, activated, called `post_relu`.
    """
    for block, count in enumerate(counts, start=1):
        for number in range(1, count + 1):
            x = _layer(x, growth, f"block{block}_{number}")
        if block < len(counts):
            x = _transition(x, f"transition{block}")
    return bn_relu(x, name="post_relu")


def top(features, outputs):
    """Build the outputs: `(batch, height, width, channels)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, kernel_initializer="he_normal")


def _layer(x, growth, name):
    """Add `growth` channels to what came before."""
    y = convolve(bn_relu(x), 4 * growth, 1, name=f"{name}_conv1")
    y = convolve(bn_relu(y), growth, 3, name=f"{name}_conv2")
    return layers.Concatenate(name=name)([x, y])


def _transition(x, name):
    """Halve the channels, and both sides."""
    x = convolve(bn_relu(x), x.shape[-1] // 2, 1, name=f"{name}_conv")
    return layers.AveragePooling2D(2, name=name)(x)
