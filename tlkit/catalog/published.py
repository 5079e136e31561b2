"""Published ImageNet accuracies, for the chart of accuracy against operations: one literal table, importing nothing.

Every accuracy is top-1 on the validation images from one crop, as the source states it. Parameters and
multiply-accumulates come from no page: they are what `tlkit inspect` computes, and a test holds the two together.

Left out are nets for which no accuracy from one crop was found: ZFNet, AlexNet in one tower, the plain nets, GoogLeNet
with batch normalization, and options of other nets.
"""

from typing import NamedTuple

CAFFE_ALEXNET = "https://github.com/BVLC/caffe/blob/master/models/bvlc_alexnet/readme.md"
CAFFE_GOOGLENET = "https://github.com/BVLC/caffe/blob/master/models/bvlc_googlenet/readme.md"
TORCHVISION = "https://github.com/pytorch/vision/blob/00542d95486feb18bda93ab6b8b7a694291151e9/docs/source/models.rst"
HE = "https://github.com/KaimingHe/deep-residual-networks"
XIE = "https://github.com/facebookresearch/ResNeXt"
HUANG = "https://github.com/liuzhuang13/DenseNet"
SZEGEDY = "https://arxiv.org/abs/1602.07261"  # table 2
KERAS = "https://keras.io/api/applications"

# The year in which each paper came out, by its URL.
YEARS = {
    "https://www.nature.com/articles/323533a0": 1986,
    "http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf": 1998,
    "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html": 2012,
    "https://arxiv.org/abs/1311.2901": 2013,
    "https://arxiv.org/abs/1409.1556": 2014,
    "https://arxiv.org/abs/1409.4842": 2014,
    "https://arxiv.org/abs/1502.03167": 2015,
    "https://arxiv.org/abs/1512.03385": 2015,
    "https://arxiv.org/abs/1602.07261": 2016,
    "https://arxiv.org/abs/1602.07360": 2016,
    "https://arxiv.org/abs/1603.05027": 2016,
    "https://arxiv.org/abs/1608.06993": 2016,
    "https://arxiv.org/abs/1611.05431": 2016,
}


class Published(NamedTuple):
    """One net's published accuracy, and what it costs.

    Attributes:
        net: Its name among `tlkit nets` or `tlkit backbones`.
        title: What it is called in the chart.
        top1: Fraction of the 50,000 validation images whose class is the net's first guess.
        crop: Side in pixels of the one crop, from the middle.
        source: URL of the page that states the accuracy.
        parameters: Number of its parameters with its top, as computed.
        macs: Multiply-accumulates for one image of its own size, as computed.
    """

    net: str
    title: str
    top1: float
    crop: int
    source: str
    parameters: int
    macs: int


# fmt: off
PUBLISHED = (
    Published("alexnet_two_towers", "AlexNet", 0.571, 227, CAFFE_ALEXNET, 60_965_224, 724_406_816),
    Published("squeezenet1_1", "SqueezeNet 1.1", 0.5819, 224, TORCHVISION, 1_235_496, 349_151_936),
    Published("vgg_a", "VGG A (11)", 0.6902, 224, TORCHVISION, 132_863_336, 7_609_090_048),
    Published("vgg_b", "VGG B (13)", 0.6993, 224, TORCHVISION, 133_047_848, 11_308_466_176),
    Published("vgg_d", "VGG D (16)", 0.7159, 224, TORCHVISION, 138_357_544, 15_470_264_320),
    Published("vgg_e", "VGG E (19)", 0.7238, 224, TORCHVISION, 143_667_240, 19_632_062_464),
    Published("vgg_d_bn", "VGG D, BN", 0.7337, 224, TORCHVISION, 138_370_216, 15_470_264_320),
    Published("vgg_e_bn", "VGG E, BN", 0.7424, 224, TORCHVISION, 143_683_752, 19_632_062_464),
    Published("googlenet", "GoogLeNet", 0.687, 224, CAFFE_GOOGLENET, 6_998_552, 1_582_671_872),
    Published("resnet18_b", "ResNet-18", 0.6976, 224, TORCHVISION, 11_699_112, 1_814_073_344),
    Published("resnet34_b", "ResNet-34", 0.7330, 224, TORCHVISION, 21_814_696, 3_663_761_408),
    Published("resnet50_b", "ResNet-50", 0.753, 224, HE, 25_610_152, 3_857_973_248),
    Published("resnet101_b", "ResNet-101", 0.764, 224, HE, 44_654_504, 7_570_194_432),
    Published("resnet152_b", "ResNet-152", 0.770, 224, HE, 60_344_232, 11_282_415_616),
    Published("resnext50", "ResNeXt-50", 0.778, 224, XIE, 25_097_128, 4_230_479_872),
    Published("resnext101", "ResNeXt-101", 0.788, 224, XIE, 44_315_560, 7_969_996_800),
    Published("densenet121_bc", "DenseNet-121", 0.750, 224, HUANG, 8_062_504, 2_834_161_664),
    Published("densenet169_bc", "DenseNet-169", 0.764, 224, HUANG, 14_307_880, 3_359_843_328),
    Published("densenet201_bc", "DenseNet-201", 0.775, 224, HUANG, 20_242_984, 4_291_365_888),
    Published("densenet161_bc", "DenseNet-161", 0.778, 224, HUANG, 28_900_936, 7_727_907_072),
    Published("inception_v4", "Inception-v4", 0.800, 299, SZEGEDY, 42_742_984, 12_253_974_624),
    Published("xception", "Xception", 0.790, 299, KERAS, 22_910_480, 8_357_403_496),
    Published("inception_v3", "Inception-v3", 0.779, 299, KERAS, 23_851_784, 5_713_216_096),
    Published("inception_resnet_v2", "Inception-ResNet-v2", 0.803, 299, KERAS, 55_873_736, 13_155_794_016),
    Published("mobilenet", "MobileNet", 0.704, 224, KERAS, 4_253_864, 568_740_352),
    Published("mobilenet_v2", "MobileNet-v2", 0.713, 224, KERAS, 3_538_984, 300_774_272),
    Published("nasnet_mobile", "NASNet-Mobile", 0.744, 224, KERAS, 5_326_716, 563_638_816),
    Published("efficientnet_b0", "EfficientNet-B0", 0.771, 224, KERAS, 5_330_571, 385_814_752),
)
# fmt: on
