"""The classic nets that tlkit builds from scratch: one literal table, importing nothing.

Where the paper has options, each has a name of its own: `resnet50_b` is ResNet-50 with the paper's shortcuts B. Names
that are pretrained backbones, too, differ from theirs: `resnet50` is Keras's net with ImageNet weights.
"""

from typing import NamedTuple

BACKPROPAGATION = "https://www.nature.com/articles/323533a0"
LENET = "http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf"
ALEXNET = "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html"
ZFNET = "https://arxiv.org/abs/1311.2901"
VGG = "https://arxiv.org/abs/1409.1556"
SQUEEZENET = "https://arxiv.org/abs/1602.07360"
GOOGLENET = "https://arxiv.org/abs/1409.4842"
BATCH_NORM = "https://arxiv.org/abs/1502.03167"
RESNET = "https://arxiv.org/abs/1512.03385"
PREACT = "https://arxiv.org/abs/1603.05027"
RESNEXT = "https://arxiv.org/abs/1611.05431"
DENSENET = "https://arxiv.org/abs/1608.06993"
INCEPTION_V4 = "https://arxiv.org/abs/1602.07261"

VGG_BLOCKS = ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool")


class Net(NamedTuple):
    """One classic net.

    Attributes:
        name: Its name, which is also its model's.
        body: `"module:function"` from the scaled image, a KerasTensor, to the feature map
            `(batch, height, width, features)`.
        top: `"module:function"` from the feature map, and a dict of output's name to width, to a dict of logits:
            the paper's own classifier.
        image_size: Side in pixels of the paper's images.
        scaling: How [0, 255] becomes what the body expects; a key of `models.backbones.SCALINGS`.
        features: Width of its feature map.
        num_classes: Of the paper's task.
        parameters: Number of its parameters with its own top, all variables counted.
        paper: URL of the paper.
        block_ends: Layer names, first block first.
        smallest_image: Least side in pixels that body and top take.
        auxiliaries: `"module:function"` from the model of the body, and outputs as `top` gets them, to a list of dicts
            of logits, whose losses help while the net trains; empty where there are none.
        weights: None: nobody's.
    """

    name: str
    body: str
    top: str
    image_size: int
    scaling: str
    features: int
    num_classes: int
    parameters: int
    paper: str
    block_ends: tuple[str, ...]
    smallest_image: int = 32
    auxiliaries: str = ""
    weights: None = None


def _net(name, file, top="top", **settings):
    """Return the entry of a net of `tlkit.models.nets` whose body is the function of the same name."""
    module = f"tlkit.models.nets.{file}"
    if settings.get("auxiliaries"):
        settings["auxiliaries"] = f"{module}:{settings['auxiliaries']}"
    return Net(name, f"{module}:{name}", f"{module}:{top}", **settings)


# fmt: off
_TABLE = (
    _net("fully_connected", "fully_connected", image_size=64, scaling="grey", features=64, num_classes=16,
         parameters=1_091_024, paper=BACKPROPAGATION, block_ends=("fc1", "fc2", "fc3"), smallest_image=16),
    _net("lenet5", "lenet", image_size=32, scaling="ink", features=120, num_classes=10, parameters=61_706,
         paper=LENET, block_ends=("s2", "s4", "c5"), smallest_image=28),
    _net("lenet5_1998", "lenet", top="top_1998", image_size=32, scaling="ink", features=120, num_classes=10,
         parameters=60_850, paper=LENET, block_ends=("s2_squashed", "s4_squashed", "c5_squashed"), smallest_image=28),
    _net("alexnet", "alexnet", image_size=227, scaling="centred", features=256, num_classes=1000,
         parameters=62_378_344, paper=ALEXNET, block_ends=("pool1", "pool2", "pool5"), smallest_image=67),
    _net("alexnet_two_towers", "alexnet", image_size=227, scaling="centred", features=256, num_classes=1000,
         parameters=60_965_224, paper=ALEXNET, block_ends=("pool1", "pool2", "pool5"), smallest_image=67),
    _net("zfnet", "zfnet", image_size=224, scaling="centred", features=256, num_classes=1000,
         parameters=62_357_608, paper=ZFNET, block_ends=("norm1", "norm2", "pool5"), smallest_image=47),
    _net("vgg_a", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=132_863_336, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_a_lrn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=132_863_336, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_b", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=133_047_848, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_c", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=133_638_952, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_d", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=138_357_544, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_e", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=143_667_240, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_a_bn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=132_871_592, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_b_bn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=133_056_680, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_c_bn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=133_651_624, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_d_bn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=138_370_216, paper=VGG, block_ends=VGG_BLOCKS),
    _net("vgg_e_bn", "vgg", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=143_683_752, paper=VGG, block_ends=VGG_BLOCKS),
    _net("squeezenet1_1", "squeezenet", image_size=224, scaling="centred", features=512, num_classes=1000,
         parameters=1_235_496, paper=SQUEEZENET, block_ends=("pool1", "pool3", "pool5", "fire9"), smallest_image=17),
    _net("googlenet", "googlenet", image_size=224, scaling="centred", features=1024, num_classes=1000,
         parameters=6_998_552, paper=GOOGLENET,
         block_ends=("conv1", "norm2", "inception_3b", "inception_4e", "inception_5b"), auxiliaries="auxiliaries"),
    _net("googlenet_naive", "googlenet", image_size=224, scaling="centred", features=4944, num_classes=1000,
         parameters=97_526_008, paper=GOOGLENET,
         block_ends=("conv1", "norm2", "inception_3b", "inception_4e", "inception_5b"), auxiliaries="auxiliaries"),
    _net("googlenet_bn", "googlenet", image_size=224, scaling="centred", features=1024, num_classes=1000,
         parameters=7_020_392, paper=BATCH_NORM,
         block_ends=("conv1", "conv2", "inception_3b", "inception_4e", "inception_5b"), auxiliaries="auxiliaries"),
    _net("plain18", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=11_523_496, paper=RESNET, block_ends=("conv2_2", "conv3_2", "conv4_2", "conv5_2")),
    _net("plain34", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=21_639_080, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnet18_a", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=11_523_496, paper=RESNET, block_ends=("conv2_2", "conv3_2", "conv4_2", "conv5_2")),
    _net("resnet18_b", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=11_699_112, paper=RESNET, block_ends=("conv2_2", "conv3_2", "conv4_2", "conv5_2")),
    _net("resnet34_a", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=21_639_080, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnet34_b", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=21_814_696, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnet34_c", "resnet", image_size=224, scaling="torch", features=512, num_classes=1000,
         parameters=22_739_624, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnet50_b", "resnet", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=25_610_152, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnet101_b", "resnet", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=44_654_504, paper=RESNET, block_ends=("conv2_3", "conv3_4", "conv4_23", "conv5_3")),
    _net("resnet152_b", "resnet", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=60_344_232, paper=RESNET, block_ends=("conv2_3", "conv3_8", "conv4_36", "conv5_3")),
    _net("plain20_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=271_098, paper=RESNET, block_ends=("conv2_3", "conv3_3", "conv4_3"), smallest_image=8),
    _net("plain32_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=466_426, paper=RESNET, block_ends=("conv2_5", "conv3_5", "conv4_5"), smallest_image=8),
    _net("plain44_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=661_754, paper=RESNET, block_ends=("conv2_7", "conv3_7", "conv4_7"), smallest_image=8),
    _net("plain56_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=857_082, paper=RESNET, block_ends=("conv2_9", "conv3_9", "conv4_9"), smallest_image=8),
    _net("plain110_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=1_736_058, paper=RESNET, block_ends=("conv2_18", "conv3_18", "conv4_18"), smallest_image=8),
    _net("resnet20_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=271_098, paper=RESNET, block_ends=("conv2_3", "conv3_3", "conv4_3"), smallest_image=8),
    _net("resnet32_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=466_426, paper=RESNET, block_ends=("conv2_5", "conv3_5", "conv4_5"), smallest_image=8),
    _net("resnet44_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=661_754, paper=RESNET, block_ends=("conv2_7", "conv3_7", "conv4_7"), smallest_image=8),
    _net("resnet56_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=857_082, paper=RESNET, block_ends=("conv2_9", "conv3_9", "conv4_9"), smallest_image=8),
    _net("resnet110_cifar", "resnet_cifar", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=1_736_058, paper=RESNET, block_ends=("conv2_18", "conv3_18", "conv4_18"), smallest_image=8),
    _net("preact_resnet50", "preact_resnet", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=25_594_792, paper=PREACT, block_ends=("conv2_3", "conv3_4", "conv4_6", "post_relu")),
    _net("preact_resnet20_cifar", "preact_resnet", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=271_098, paper=PREACT, block_ends=("conv2_3", "conv3_3", "post_relu"), smallest_image=8),
    _net("preact_resnet56_cifar", "preact_resnet", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=857_082, paper=PREACT, block_ends=("conv2_9", "conv3_9", "post_relu"), smallest_image=8),
    _net("preact_resnet110_cifar", "preact_resnet", image_size=32, scaling="torch", features=64, num_classes=10,
         parameters=1_736_058, paper=PREACT, block_ends=("conv2_18", "conv3_18", "post_relu"), smallest_image=8),
    _net("preact_resnet164_cifar", "preact_resnet", image_size=32, scaling="torch", features=256, num_classes=10,
         parameters=1_727_482, paper=PREACT, block_ends=("conv2_18", "conv3_18", "post_relu"), smallest_image=8),
    _net("resnext50", "resnext", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=25_097_128, paper=RESNEXT, block_ends=("conv2_3", "conv3_4", "conv4_6", "conv5_3")),
    _net("resnext101", "resnext", image_size=224, scaling="torch", features=2048, num_classes=1000,
         parameters=44_315_560, paper=RESNEXT, block_ends=("conv2_3", "conv3_4", "conv4_23", "conv5_3")),
    _net("densenet121_bc", "densenet", image_size=224, scaling="torch", features=1024, num_classes=1000,
         parameters=8_062_504, paper=DENSENET, block_ends=("transition1", "transition2", "transition3", "post_relu")),
    _net("densenet161_bc", "densenet", image_size=224, scaling="torch", features=2208, num_classes=1000,
         parameters=28_900_936, paper=DENSENET, block_ends=("transition1", "transition2", "transition3", "post_relu")),
    _net("densenet169_bc", "densenet", image_size=224, scaling="torch", features=1664, num_classes=1000,
         parameters=14_307_880, paper=DENSENET, block_ends=("transition1", "transition2", "transition3", "post_relu")),
    _net("densenet201_bc", "densenet", image_size=224, scaling="torch", features=1920, num_classes=1000,
         parameters=20_242_984, paper=DENSENET, block_ends=("transition1", "transition2", "transition3", "post_relu")),
    _net("densenet100_bc_cifar", "densenet", image_size=32, scaling="torch", features=342, num_classes=10,
         parameters=793_150, paper=DENSENET, block_ends=("transition1", "transition2", "post_relu"), smallest_image=8),
    _net("inception_v4", "inception_v4", image_size=299, scaling="tf", features=1536, num_classes=1000,
         parameters=42_742_984, paper=INCEPTION_V4,
         block_ends=("stem", "inception_a4", "inception_b7", "inception_c3"), smallest_image=75),
)
# fmt: on

NETS = {net.name: net for net in _TABLE}
