"""The one way in which images are resized."""

import cv2
import numpy as np

INTERPOLATION = "area when shrinking to half or less, else linear"


def resize(image, width, height):
    """Resize without aliasing: averaging areas where the image shrinks to half or less, else linear.

    Measured with ResNet-50 and MobileNetV2 on 100 ImageNet photos, linear was two photos ahead of areas for less
    shrinking.

    Args:
        image: Array `(any height, any width, 3)`.
        width, height: The new sides in pixels.

    Returns:
        Array `(height, width, 3)` of the same dtype.
    """
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    halves = image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if halves else cv2.INTER_LINEAR)
