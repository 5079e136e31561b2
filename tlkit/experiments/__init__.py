"""The lectures' claims as experiments that anyone can run again: each a table, a chart and a verdict in plain words.

One literal table; what an experiment does is in the module of its name, loaded when it runs.
"""

from typing import NamedTuple

from tlkit.errors import TlkitError, did_you_mean

MNIST = "MNIST as mnist.npz (https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz)"
CIFAR = "CIFAR-10 as a folder with train/<class>/ and test/<class>/, or a tar.gz of it"


class Experiment(NamedTuple):
    """One experiment.

    Attributes:
        name: Its name; its module is `tlkit.experiments.<name>`, with underscores.
        line: What it shows, in one line.
        claim: What the lectures say, which it tests.
        defaults: Dict of each option that it takes, `seeds`, `images`, `epochs` or `workers`, to its default.
        data: What `--data` must be; empty for an experiment without images.
    """

    name: str
    line: str
    claim: str
    defaults: dict[str, int]
    data: str = ""


_TABLE = (
    Experiment(
        "depth",
        "Plain and residual nets of 20 and 56 layers: the training error of the deeper plain net is the higher one.",
        "A deeper plain net has the higher training error, so it is not overfitting; shortcuts undo that "
        "(He et al. 2015, https://arxiv.org/abs/1512.03385, figure 6).",
        {"seeds": 3, "images": 10_000, "epochs": 15, "workers": 2},
        CIFAR,
    ),
    Experiment(
        "permuted-pixels",
        "Digits whose pixels are permuted: the dense net does not care, the convnet does.",
        "A dense net learns as well from permuted pixels as from images; a convolutional net lives on which pixels "
        "are neighbours.",
        {"seeds": 3, "images": 10_000, "epochs": 5},
        MNIST,
    ),
    Experiment(
        "translation",
        "Shifted digits: convolution moves along exactly, pooling changes less, nets are only partly invariant.",
        "Convolution is equivariant to translation; pooling makes features partly, and only locally, invariant.",
        {"seeds": 3, "images": 10_000, "epochs": 5},
        MNIST,
    ),
    Experiment(
        "transfer-vs-scratch",
        "Accuracy against the number of images per class: a pretrained net's features, and a net from scratch.",
        "With few images, features of a pretrained net beat a net that is trained from scratch; the fewer, the more.",
        {"seeds": 3, "images": 300, "epochs": 30, "workers": 1},
        CIFAR,
    ),
    Experiment(
        "receptive-field",
        "The receptive field that arithmetic gives, and the part of it that gradients really use.",
        "A stack of n 3x3 convolutions sees 2n + 1 pixels, three of them 7; but what it sees is weighted like a bell, "
        "whose width grows as the square root of n (Luo et al. 2016, https://arxiv.org/abs/1701.04128).",
        {"seeds": 3, "images": 8},
    ),
    Experiment(
        "initialization",
        "Activations and gradients through 30 layers for N(0, 0.01), Glorot and He, with and without BatchNorm.",
        "Weights of the wrong size make activations and gradients vanish with depth; He's keep them under ReLU "
        "(https://arxiv.org/abs/1502.01852); BatchNorm makes the size of the weights matter less.",
        {"seeds": 5},
    ),
    Experiment(
        "small-data",
        "Few digits: what helps LeNet-5 to learn from them, each remedy alone, and features of a pretrained net.",
        "A net that has few images learns them by heart; more data, regularization, augmentation, a second task and "
        "transfer each narrow the gap between training and test.",
        {"seeds": 3, "images": 500},
        MNIST,
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _TABLE}


def find_experiment(name):
    """Return the `Experiment` of a name.

    Raises:
        TlkitError: If there is none.
    """
    if name not in EXPERIMENTS:
        hint = did_you_mean(name, EXPERIMENTS)
        raise TlkitError(f"no experiment is called {name!r}.{hint} `tlkit experiment` lists them.")
    return EXPERIMENTS[name]
