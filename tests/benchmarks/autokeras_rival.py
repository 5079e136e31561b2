"""AutoKeras 3 on the same split for the same time; runs in an environment of its own, without tlkit.

Run:     python3 -m venv ak && ak/bin/pip install autokeras tensorflow "keras==3.12.*" tensorboard pillow
         python tests/benchmarks/autokeras_rival.py --lay-out DATA FOLDER    # where tlkit is installed
         ak/bin/python tests/benchmarks/autokeras_rival.py FOLDER --seconds 180 [--image-size 224]

Prints one line of JSON: seconds, trials begun and ended with their scores, what failed, accuracy on the test images.
Its `ImageClassifier` tries a small convolutional net, then ResNet-50 from scratch, then EfficientNet-B7 with ImageNet
weights, which it downloads: without a network that trial fails, and the figure is one of nets from scratch. Then no
verdict on accuracy follows from it; what can be compared is whether it is done in time, and with what.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

STARTED = time.monotonic()


def lay_out(source, folder):
    """Link the split that tlkit makes as `folder/<split>/<class>/`."""
    from tuning import lay_out

    lay_out(source, Path(folder))


def read(folder, classes, size):
    """Return float32 images `(n, size, size, 3)`, centre-cropped and resized, and their class names."""
    import numpy as np
    from PIL import Image, ImageOps

    images, labels = [], []
    for name in classes:
        for file in sorted((folder / name).iterdir()):
            with Image.open(file) as image:
                images.append(np.asarray(ImageOps.fit(image.convert("RGB"), (size, size)), np.float32))
            labels.append(name)
    return np.stack(images), np.array(labels)


def search(folder, seconds, size):
    """Search until time is up; return the figures."""
    import autokeras
    import keras

    class UntilTimeIsUp(keras.callbacks.Callback):
        """Ends the epoch, the trial, and with it the search, which then keeps its best model."""

        def on_train_batch_end(self, batch, logs=None):
            if time.monotonic() - STARTED > seconds:
                self.model.stop_training = True
                found.tuner.oracle.max_trials = 1

        on_epoch_end = on_train_batch_end

    classes = sorted(path.name for path in (folder / "train").iterdir())
    (train, labels), (val, val_labels), (test, test_labels) = (
        read(folder / split, classes, size) for split in ("train", "val", "test")
    )
    with tempfile.TemporaryDirectory() as directory:
        found = autokeras.ImageClassifier(max_trials=1000, directory=directory, seed=0)
        why = "time was up"
        try:
            found.fit(train, labels, validation_data=(val, val_labels), callbacks=[UntilTimeIsUp()], verbose=0)
        except RuntimeError as error:  # too many trials failed one after the other
            why = str(error).strip().splitlines()[-1]
        searched = time.monotonic() - STARTED
        trials = found.tuner.oracle.trials.values()
        result = {
            "seconds": round(searched, 1),
            "ended": why,
            "trials": [
                {
                    "net": trial.hyperparameters.values.get("image_block_1/block_type"),
                    "status": trial.status,
                    "val_loss": trial.score,
                }
                for trial in trials
            ],
        }
        if any(trial.score is not None for trial in trials):
            model, pipeline = found.tuner.get_best_model(), found.tuner.get_best_pipeline()
            probabilities = model.predict(pipeline.transform_x(test), verbose=0)
            result["test_accuracy"] = float((pipeline.postprocess(probabilities).ravel() == test_labels).mean())
    return result


if __name__ == "__main__":
    if sys.argv[1] == "--lay-out":
        lay_out(*sys.argv[2:4])
    else:
        options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
        figures = search(Path(sys.argv[1]), float(options["--seconds"]), int(options.get("--image-size", 224)))
        print(json.dumps(figures))
