"""The baseline to compare tlkit against: Keras's own guide, followed for a folder of images.

Run:     python tests/benchmarks/keras_guide.py DATA_DIR --backbone resnet50 --weights PATH
Guide:   "Transfer learning & fine-tuning", https://keras.io/guides/transfer_learning/ (the text for Keras 3)

Section of the guide                        Here
Getting the data, Standardizing the data    `read_images`: image_dataset_from_directory, which the guide names for data
                                            of one's own; resized, squashed to a square, in the input pipeline
Using random data augmentation              `augment`: RandomFlip("horizontal"), RandomRotation(0.1), in the input
                                            pipeline; the guide has no RandomZoom
(same), "optimize loading speed"            `read_images`: decoded images cached in memory, prefetch(AUTOTUNE)
Build a model                               `build_model`: frozen base called with training=False, scaling inside the
                                            model, GlobalAveragePooling2D, Dropout(0.2), Dense
Train the top layer                         `main`, phase "frozen": Adam() at its default 1e-3; 2 epochs in the guide
Do a round of fine-tuning                   `main`, phase "fine": everything unfrozen, Adam(1e-5); 1 epoch in the guide
(same), "Test dataset evaluation"           `main`, phase "test": with the weights of the last epoch

Where a good user departs from the guide's letter, each time to the baseline's advantage or out of need:

- The guide ends its pipeline with `.map(augment).batch().prefetch().cache()`. That caches augmented images, so that all
  epochs see those of the first, in one order. Here the decoded images are cached, then shuffled, batched and augmented
  anew in each epoch. `--no-cache` decodes in each epoch instead, for folders too large for memory: an image of 224
  pixels takes 0.6 MB.
- Augmentation works on whole batches; by image, as in the guide, it takes as long.
- Batches of 32, like tlkit's, instead of 64: more steps an epoch.
- The test images are read once and not cached.
- One logit per class and a sparse cross-entropy, instead of one logit for cats against dogs.
- ResNet50 and MobileNetV2 scale with their family's `preprocess_input`, as the guide's Rescaling does for Xception.
  EfficientNet-Lite0 isn't in keras.applications: tlkit builds it, with its scaling inside. The rest stays the same.

What the guide means and Keras 3.15 doesn't do: `fit` overrides the `training=False` with which the base is called, so
that its BatchNorm trains in fine-tuning, and a base with Dropout inside, such as Lite0, drops in both rounds. The
script follows the guide's code.
"""

import contextlib
import csv
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import tensorflow as tf
from keras import layers

from tlkit.models.backbones import build_backbone

VALIDATION_SPLIT = 0.2  # of DATA_DIR/train, where there is no DATA_DIR/val
SHUFFLE_BUFFER = 1000  # images; the order of the files is shuffled as a whole before

APPLICATIONS = {
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet50.preprocess_input),
    "mobilenetv2": (keras.applications.MobileNetV2, keras.applications.mobilenet_v2.preprocess_input),
}


def read_images(data_dir, image_size, batch_size, cache, seed):
    """Read DATA_DIR/{train,val,test}/CLASS/*: the guide's "Getting the data" to "optimize loading speed".

    Args:
        data_dir: Folder; without `val` in it, part of `train` is held out; without `test`, there is no test dataset.
        image_size: Side in pixels to resize to, bilinear.
        batch_size: Number of images per batch.
        cache: Whether decoded images of train and val stay in memory.
        seed: Seed of the order, and of what is held out.

    Returns:
        `(train, val, test, class_names, sizes)`: three `tf.data.Dataset` of float32 RGB in [0, 255]
        `(batch, image_size, image_size, 3)` with int labels, `test` None where absent; names; images per dataset.
    """

    def read(folder, **options):
        return keras.utils.image_dataset_from_directory(
            data_dir / folder, image_size=(image_size, image_size), seed=seed, **options
        )

    # Training images come one by one, so that they can be shuffled anew after the cache.
    if (data_dir / "val").is_dir():
        train = read("train", batch_size=None)
        val = read("val", batch_size=batch_size, shuffle=False, class_names=train.class_names)
    else:
        train = read("train", batch_size=None, validation_split=VALIDATION_SPLIT, subset="training")
        val = read("train", batch_size=batch_size, validation_split=VALIDATION_SPLIT, subset="validation")
    class_names = train.class_names
    sizes = {"train": len(train.file_paths), "val": len(val.file_paths), "test": 0}
    test = None
    if (data_dir / "test").is_dir():
        test = read("test", batch_size=batch_size, shuffle=False, class_names=class_names)
        sizes["test"] = len(test.file_paths)

    if cache:
        train, val = train.cache(), val.cache()
        train = train.shuffle(SHUFFLE_BUFFER, seed=seed)  # without a cache, the files are shuffled anew anyway
    train = train.batch(batch_size)
    train = train.map(augment(), num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return train, val.prefetch(tf.data.AUTOTUNE), test, class_names, sizes


def augment():
    """Return the guide's "random data augmentation" as a function of a batch: `(images, labels)` to the same."""
    augmentation_layers = [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)]

    def apply(images, labels):
        for layer in augmentation_layers:
            images = layer(images, training=True)
        return images, labels

    return apply


def load_base(backbone, weights, image_size):
    """Return a pretrained base without its top, and the function that scales RGB in [0, 255] for it.

    Args:
        backbone: "resnet50", "mobilenetv2" or "efficientnet_lite0".
        weights: "imagenet", or the path of a weights file, for keras.applications one with the top.
        image_size: Side of the square image in pixels.
    """
    if backbone not in APPLICATIONS:
        return build_backbone(backbone, weights=weights, image_size=image_size), lambda images: images
    application, preprocess_input = APPLICATIONS[backbone]
    input_shape = (image_size, image_size, 3)
    if weights == "imagenet":
        return application(weights="imagenet", input_shape=input_shape, include_top=False), preprocess_input
    full = application(weights=None, input_shape=input_shape)
    full.load_weights(weights)
    return keras.Model(full.input, full.layers[-3].output), preprocess_input  # cut off pooling and the classifier


def build_model(base, preprocess_input, image_size, num_classes):
    """Freeze `base` and put a new head on it: the guide's "Build a model"; images to logits `(batch, num_classes)`."""
    base.trainable = False
    inputs = keras.Input((image_size, image_size, 3))
    x = preprocess_input(inputs)
    x = base(x, training=False)  # BatchNormalization stays in inference mode, in fine-tuning too
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x))


def compile_model(model, optimizer):
    """Compile with the loss and the metric that both rounds of training share."""
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )


class Stopwatch:
    """Seconds per phase, from the end of one to the end of the next; `seconds` adds up to the whole."""

    def __init__(self):
        self.seconds = {}
        self._last = time.perf_counter()

    def end(self, phase):
        now = time.perf_counter()
        self.seconds[phase] = round(now - self._last, 2)
        self._last = now


def write_predictions(path, folder, model, images, class_names):
    """Write each held-out image's label, prediction and probabilities, in the form of tlkit's predictions_test.csv."""
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(images, verbose=0)))
    files = [(label, file.name) for label in class_names for file in sorted((folder / label).iterdir())]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "label.prediction", *(f"label.{label}" for label in class_names)])
        for (label, name), row in zip(files, probabilities, strict=True):
            writer.writerow([name, label, class_names[row.argmax()], *map(float, row)])


@click.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--backbone", type=click.Choice([*APPLICATIONS, "efficientnet_lite0"]), required=True)
@click.option("--weights", default="imagenet", show_default=True, metavar="PATH|imagenet", help="Pretrained weights.")
@click.option("--frozen-epochs", type=click.IntRange(min=0), default=2, show_default=True)
@click.option("--fine-epochs", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--image-size", type=click.IntRange(min=32), default=224, show_default=True, help="Side in pixels.")
@click.option("--seed", default=0, show_default=True)
@click.option("--predictions", type=click.Path(path_type=Path), help="CSV for the held-out images' probabilities.")
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep decoded images in memory.")
def main(data_dir, backbone, weights, frozen_epochs, fine_epochs, batch_size, image_size, seed, predictions, cache):
    """Train on DATA_DIR/{train,val,test}/CLASS as the guide does; print one line of JSON, progress to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        watch = Stopwatch()
        keras.utils.set_random_seed(seed)
        train, val, test, class_names, sizes = read_images(data_dir, image_size, batch_size, cache, seed)
        watch.end("data")
        base, preprocess_input = load_base(backbone, weights, image_size)
        model = build_model(base, preprocess_input, image_size, len(class_names))
        watch.end("build")

        val_accuracies = []
        compile_model(model, keras.optimizers.Adam())
        if frozen_epochs:
            history = model.fit(train, epochs=frozen_epochs, validation_data=val, verbose=2).history
            val_accuracies += history["val_accuracy"]
        watch.end("frozen")

        if fine_epochs:
            base.trainable = True
            compile_model(model, keras.optimizers.Adam(1e-5))
            history = model.fit(train, epochs=fine_epochs, validation_data=val, verbose=2).history
            val_accuracies += history["val_accuracy"]
        watch.end("fine")

        test_accuracy = model.evaluate(test, verbose=2, return_dict=True)["accuracy"] if test else None
        watch.end("test")
        if predictions:
            held_out = ("test", test) if test else ("val", val)
            write_predictions(predictions, data_dir / held_out[0], model, held_out[1], class_names)

    result = {
        "script": Path(__file__).name,
        "backbone": backbone,
        "weights": Path(weights).name,
        "images": sizes,
        "classes": len(class_names),
        "frozen_epochs": frozen_epochs,
        "fine_epochs": fine_epochs,
        "batch_size": batch_size,
        "image_size": image_size,
        "seed": seed,
        "cache": cache,
        "jit_compile": model.jit_compile,  # Keras's own choice: XLA on a GPU, none on a CPU
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
        "seconds": round(sum(watch.seconds.values()), 2),
        "phase_seconds": watch.seconds,
        "val_accuracy": val_accuracies[-1] if val_accuracies else None,
        "val_accuracies": val_accuracies,  # after each epoch, frozen ones first
        "test_accuracy": test_accuracy,
    }
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
