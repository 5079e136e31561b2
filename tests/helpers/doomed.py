"""A run that is killed in the middle of its training, and the comparison of two runs bit by bit."""

import keras
import numpy as np

# A program that is killed for good when its training reaches the step that its first argument says.
DOOMED = """
import os, signal, sys
from tlkit.cli import main
from tlkit.training.stage import StageTrainer

train_step, left = StageTrainer.train_step, [int(sys.argv.pop(1))]

def doomed_step(self, *batch, **more):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return train_step(self, *batch, **more)

StageTrainer.train_step = doomed_step
main()
"""


def assert_same_bits(one, other, files=("metrics.json", "history.csv")):
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    models = [keras.saving.load_model(path / "model.keras") for path in (one, other)]
    for mine, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(mine, theirs)
