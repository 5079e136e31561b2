"""VGG: small convolutions, many of them. Configurations A to E of table 1, and each with batch normalization.

The paper begins the deep nets from a trained A, but adds that Glorot's weights make that unnecessary: these are what
all begin with here. Batch normalization came later (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167); it stands
between a convolution and its ReLU, and the convolution has no bias, since what it adds would be subtracted again.

Reference:
    Simonyan & Zisserman 2014, https://arxiv.org/abs/1409.1556, table 1, section 3.1.
"""

from keras import layers

from tlkit.models.nets.parts import batch_norm, classify_with_two_hidden, local_response_normalization

INITIALIZER = "glorot_uniform"

# Sides of the kernels, block by block.
A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
B = ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))
C = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))
D = ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
E = ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))


def vgg(image, kernel_sizes, batch_norm=False, normalize_first=False):
    """Build the convolutional layers of a VGG net.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`; any side of at least 32 pixels.
        kernel_sizes: Sides of the kernels, a tuple for each block.
        batch_norm: Whether batch normalization follows each convolution.
        normalize_first: Whether local response normalization, with AlexNet's constants, follows the first.

    Returns:
        KerasTensor `(batch, 7, 7, 512)`.
    """
    x = image
    for block, sizes in enumerate(kernel_sizes, start=1):
        filters = min(32 * 2**block, 512)  # 64, 128, 256, 512, 512
        for number, size in enumerate(sizes, start=1):
            x = _convolve(x, filters, size, f"block{block}_conv{number}", batch_norm)
            if normalize_first and block == number == 1:
                x = local_response_normalization(x, "block1_norm1")
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)  # sides of 112, 56, 28, 14, 7
    return x


def top(features, outputs):
    """Build the dense layers: `(batch, 7, 7, 512)` to a dict of logits by the name of the output."""
    return classify_with_two_hidden(features, outputs, initializer=INITIALIZER)  # 4096, 4096, 1000


def _convolve(x, filters, size, name, normalize):
    settings = {"padding": "same", "kernel_initializer": INITIALIZER}
    if not normalize:
        return layers.Conv2D(filters, size, activation="relu", name=name, **settings)(x)
    x = layers.Conv2D(filters, size, use_bias=False, name=name, **settings)(x)
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, name=f"{name}_norm"))


def vgg_a(image):
    """Build configuration A, 11 layers with weights: see `vgg`."""
    return vgg(image, A)


def vgg_a_lrn(image):
    """Build configuration A-LRN, which normalizes after its first convolution: see `vgg`."""
    return vgg(image, A, normalize_first=True)


def vgg_b(image):
    """Build configuration B, 13 layers with weights: see `vgg`."""
    return vgg(image, B)


def vgg_c(image):
    """Build configuration C, 16 layers with weights, three of them 1x1 convolutions: see `vgg`."""
    return vgg(image, C)


def vgg_d(image):
    """Build configuration D, 16 layers with weights (VGG-16): see `vgg`."""
    return vgg(image, D)


def vgg_e(image):
    """Build configuration E, 19 layers with weights (VGG-19): see `vgg`."""
    return vgg(image, E)


def vgg_a_bn(image):
    """Build configuration A with batch normalization: see `vgg`."""
    return vgg(image, A, batch_norm=True)


def vgg_b_bn(image):
    """Build configuration B with batch normalization: see `vgg`."""
    return vgg(image, B, batch_norm=True)


def vgg_c_bn(image):
    """Build configuration C with batch normalization: see `vgg`."""
    return vgg(image, C, batch_norm=True)


def vgg_d_bn(image):
    """Build configuration D with batch normalization: see `vgg`."""
    return vgg(image, D, batch_norm=True)


def vgg_e_bn(image):
    """Build configuration E with batch normalization: see `vgg`."""
    return vgg(image, E, batch_norm=True)
