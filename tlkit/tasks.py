"""What a model is asked to say about an image."""

import re
from dataclasses import dataclass

KINDS = ("single_label",)
NAME = re.compile(r"[A-Za-z0-9_.-]+")  # a task's name names layers, too


@dataclass(frozen=True)
class Task:
    """One question about an image, answered by one head.

    Attributes:
        kind: `"single_label"`: exactly one of `classes`; labels are int32 indices into it.
        classes: Class names, in the order of the model's outputs.
    """

    kind: str
    classes: tuple[str, ...]

    @property
    def num_outputs(self):
        """Width of the task's logits."""
        return len(self.classes)
