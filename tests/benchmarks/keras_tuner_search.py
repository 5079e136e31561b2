"""The search that `tlkit tune` does, written with keras-tuner and Keras alone: no feature is kept.

Run:     python tests/benchmarks/keras_tuner_search.py DATA_DIR --trials 30

DATA_DIR has train/, perhaps val/ and test/. The data come, the frozen base is called and the head is built as in
`keras_guide.py`; the ranges are those of tlkit's default space above the frozen layers. Early stopping and pruning,
which keras-tuner's random search hasn't, are left out. Prints one line of JSON: seconds of the search, scores.
"""

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

import click
import keras
import keras_tuner
from keras import layers
from keras_guide import load_base, read_images

SIZE, BATCH = 224, 32
POOLINGS = {
    "avg": lambda x: layers.GlobalAveragePooling2D()(x),
    "avg+max": lambda x: layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]),
    "max": lambda x: layers.GlobalMaxPooling2D()(x),
}


class Head(keras_tuner.HyperModel):
    """A new head on the frozen base; epochs and schedule are searched, too."""

    def __init__(self, backbone, weights, classes, steps):
        super().__init__()
        self._backbone, self._weights, self._classes, self._steps = backbone, weights, classes, steps

    def build(self, hp):
        base, scaled = load_base(self._backbone, self._weights, SIZE)
        base.trainable = False
        penalty = keras.regularizers.L2(hp.Float("l2", 1e-7, 1e-2, sampling="log"))
        image = keras.Input((SIZE, SIZE, 3))
        x = POOLINGS[hp.Choice("pooling", list(POOLINGS))](base(scaled(image), training=False))
        if hidden := hp.Choice("hidden", [0, 128, 512]):
            x = layers.Dense(hidden, activation="relu", kernel_regularizer=penalty)(x)
        x = layers.Dropout(hp.Float("dropout", 0.0, 0.7))(x)
        x = layers.Dense(self._classes, kernel_regularizer=penalty)(x)
        rate, epochs = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log"), hp.Choice("epochs", [5, 10, 20])
        if hp.Choice("schedule", ["cosine", "constant"]) == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, epochs * self._steps)
        smoothing = hp.Choice("smoothing", [0.0, 0.05, 0.1])
        model = keras.Model(image, x)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        return model

    def fit(self, hp, model, train, **settings):
        settings |= {"epochs": hp.get("epochs"), "verbose": 0}
        return model.fit(train, **settings)


@click.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--backbone", default="efficientnet_lite0", show_default=True)
@click.option("--weights", default="imagenet", show_default=True)
@click.option("--trials", default=30, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(data_dir, backbone, weights, trials, seed):
    """Search, and print the line."""
    with contextlib.redirect_stdout(sys.stderr):
        started = time.monotonic()
        keras.utils.set_random_seed(seed)
        train, val, _, names, sizes = read_images(data_dir, SIZE, BATCH, True, seed)

        def one_hot(images, labels):
            return images, keras.ops.one_hot(labels, len(names))

        train, val = train.map(one_hot), val.map(one_hot)
        model = Head(backbone, weights, len(names), -(-sizes["train"] // BATCH))
        with tempfile.TemporaryDirectory() as folder:
            tuner = keras_tuner.RandomSearch(
                model, "val_loss", max_trials=trials, seed=seed, directory=folder, project_name="search"
            )
            tuner.search(train, validation_data=val)
        scores = [trial.score for trial in tuner.oracle.trials.values()]
        seconds = time.monotonic() - started
    click.echo(json.dumps({"trials": len(scores), "seconds": round(seconds, 1), "best_val_loss": min(scores)}))


if __name__ == "__main__":
    main()
