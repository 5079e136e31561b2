"""Whether a part of one picture lies on a part of another: cropped, shifted, scaled, turned, mirrored copies."""

from typing import NamedTuple

import cv2
import numpy as np

SIDE = 256  # pixels of the longer side at which pictures are compared
SMALLEST = 64  # pixels of the shorter side below which there is too little to match
POINTS = 300  # of a picture that are matched
RATIO = 0.8  # of the distances to the nearest and the second nearest point: Lowe's test
LEAST_INLIERS = 8  # few; it is the grey values that decide
NEAR = 3.0  # pixels that a matched point may be off
LEAST_OVERLAP = 0.35  # of the smaller picture
LEAST_CORRELATION = 0.92  # of the grey values where they overlap
LEAST_DETAIL = 0.75  # of what is left of them without the coarse pattern


class Scene(NamedTuple):
    """A picture as it is compared: grey values, and the points that are matched in it and in its mirror image.

    Attributes:
        gray: uint8 `(height, width)`.
        points, mirrored: Each `(places, descriptors)`: float32 `(points, 2)` and uint8 `(points, 128)`.
    """

    gray: np.ndarray
    points: tuple
    mirrored: tuple


def see(image):
    """Return the `Scene` of a picture, uint8 RGB `(height, width, 3)`, or None where there is too little to match."""
    if min(image.shape[:2]) < SMALLEST:
        return None
    gray = _gray(image)
    points, mirrored = _points(gray), _points(_mirror(gray))
    few = min(len(points[0]), len(mirrored[0])) < LEAST_INLIERS
    return None if few else Scene(gray, points, mirrored)


def same_scene(first, second):
    """Lay two pictures on each other by points that they share, as they are or with one of them mirrored.

    Args:
        first, second: What `see` returns.

    Returns:
        Correlation of the details where they overlap, or None if they don't show one picture.

    Reference:
        Lowe 2004, "Distinctive image features from scale-invariant keypoints",
        https://doi.org/10.1023/B:VISI.0000029664.99615.94; Fischler & Bolles 1981 (RANSAC),
        https://doi.org/10.1145/358669.358692.
    """
    if first is None or second is None:
        return None
    scores = [
        _lay(first.gray, first.points, second.gray, second.points),
        _lay(first.gray, first.points, _mirror(second.gray), second.mirrored),
    ]
    return max((score for score in scores if score is not None), default=None)


def _mirror(gray):
    return np.ascontiguousarray(gray[:, ::-1])


def _gray(image):
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    gray = cv2.normalize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None, 0, 255, cv2.NORM_MINMAX)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _points(gray):
    places, descriptors = cv2.SIFT_create(nfeatures=POINTS).detectAndCompute(gray, None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    return np.float32([place.pt for place in places]), descriptors.astype(np.uint8)  # they are whole numbers


def _lay(first, points, second, other_points):
    """Return the correlation of the details where the second picture, moved, overlaps the first, or None."""
    (places, descriptors), (other_places, other_descriptors) = points, other_points
    matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(other_descriptors, descriptors, k=2)
    good = [pair[0] for pair in matches if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < LEAST_INLIERS:
        return None
    source = other_places[[match.queryIdx for match in good]]
    target = places[[match.trainIdx for match in good]]
    move, inliers = cv2.estimateAffine2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=NEAR)
    if move is None or inliers.sum() < LEAST_INLIERS:
        return None
    size = (first.shape[1], first.shape[0])
    covered = cv2.warpAffine(np.ones_like(second), move, size, flags=cv2.INTER_NEAREST) > 0
    growth = abs(np.linalg.det(move[:, :2]))
    if covered.sum() < LEAST_OVERLAP * min(first.size, growth * second.size) or not 0.05 < growth < 20:
        return None
    moved = cv2.warpAffine(second, move, size, flags=cv2.INTER_LINEAR)
    inside = cv2.erode(covered.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    one, other = first.astype(np.float32), np.where(covered, moved, first).astype(np.float32)
    if _correlation(one[inside], other[inside]) < LEAST_CORRELATION:
        return None
    details = [cv2.GaussianBlur(part, (0, 0), 1.0) - cv2.GaussianBlur(part, (0, 0), 6.0) for part in (one, other)]
    detail = _correlation(*(part[inside] for part in details))
    return min(1.0, detail) if detail >= LEAST_DETAIL else None


def _correlation(one, other):
    if len(one) < SMALLEST:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
