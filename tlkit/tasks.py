"""What a model is asked to say about an image."""

import re
from dataclasses import dataclass

KINDS = ("single_label", "multilabel", "regression")
NAME = re.compile(r"[A-Za-z0-9_.-]+")  # a task's name names layers, too


@dataclass(frozen=True)
class Task:
    """One question about an image, answered by one head.

    Attributes:
        kind: `"single_label"`: exactly one of `classes`; labels are int32 `(n,)` indices into it, -1 where missing.
            `"multilabel"`: any number of `classes`; labels are int8 `(n, classes)` of 0 and 1, -1 where missing.
            `"regression"`: a number; labels are float64 `(n,)`, NaN where missing.
        classes: Class names, in the order of the model's outputs; empty for regression.
        mean, scale: For regression: mean and standard deviation of the training labels. The head learns
            `(label - mean) / scale`, and the model's last layer turns that back.
    """

    kind: str
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @property
    def num_outputs(self):
        """Width of the task's logits."""
        return 1 if self.kind == "regression" else len(self.classes)
