"""From files or arrays to batches: index, decode, augment, pipeline."""

import os

from tlkit.data.headers import MAX_PIXELS

# For OpenCV, which reads this when it is loaded: it refuses what a header that fooled ours declares.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
