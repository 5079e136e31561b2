"""Why a model says what it says: maps over the image, what its channels look for, and what it takes an image for."""

from tlkit.evaluation.explain.gradients import grad_cam, grad_cams

__all__ = ["grad_cam", "grad_cams"]
