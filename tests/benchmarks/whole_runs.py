"""Whole runs side by side, each in a process of its own, as a table.

Run:     python tests/benchmarks/whole_runs.py guide DATA [--backbone NAME] [--weights FILE] [--seeds 0,1,2]
         python tests/benchmarks/whole_runs.py second DATA [--backbone NAME] [--weights FILE] [--repeats 3]

guide   `tlkit finetune` with the default recipe, no features kept from before, beside `keras_guide.py` on the same
        images: for as many frozen and fine-tuning epochs, and, with the first seed, for the 2 + 1 epochs that the guide
        itself shows. Seconds of the whole process, imports and test included, and accuracy on the test images. The
        guide fine-tunes all blocks and ships its last epoch; the default recipe, two blocks and the best epoch. DATA
        has the folders train, val and test.
second  The recipe feature_extraction twice, the second time with another head: seconds from after the imports.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import click

OTHER_HEAD = ["head.hidden=[128]", "head.dropout=0.4"]


def run_process(arguments, cache):
    """Run a Python process to its end; return its wall seconds and the JSON that its last line holds."""
    environment = os.environ | {"TLKIT_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.monotonic()
    done = subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - started, json.loads(done.stdout.splitlines()[-1])


# What the guide does, too: a head that begins at random trains first; then, here, two blocks.
TWO_STAGES = [
    "head.init=random",
    "stages=[{unfreeze=0,epochs=5,learning_rate=3e-3},{unfreeze=2,epochs=3,learning_rate=3e-4}]",
]


@click.group()
def main():
    """Compare whole runs."""


@main.command(hidden=True)
@click.argument("recipe")
@click.argument("data")
@click.argument("out")
@click.argument("overrides", nargs=-1)
def child(recipe, data, out, overrides):
    """Make one run and print how long it took from after the imports, its accuracy and its epochs."""
    import keras  # noqa: F401
    import tensorflow as tf

    import tlkit
    from tlkit.api import finetune_recipe, job  # noqa: F401
    from tlkit.delivery import predict  # noqa: F401
    from tlkit.recipe import read_recipe
    from tlkit.training import checkpoint, features, fit, tensorboard  # noqa: F401

    tf.constant(0)  # starts the engine
    started = time.monotonic()
    run = finetune_recipe(read_recipe(recipe, overrides), data, out=out, listener=tlkit.Screen())
    seconds = time.monotonic() - started
    split, entry = run.headline
    epochs = [stage.epochs for stage in read_recipe(Path(out) / "recipe.toml").stages]
    passes = json.loads((Path(out) / "timing.json").read_text())["feature_pass_seconds"]
    figures = {"seconds": seconds, "split": split, "epochs": epochs, "pass_seconds": passes}
    print(json.dumps(figures | next(iter(entry["tasks"].values()))))


def run_tlkit(recipe, data, folder, name, overrides):
    """Make one run in a process of its own; return what `run_process` does."""
    return run_process([__file__, "child", recipe, str(data), str(folder / name), *overrides], folder / "cache")


def numbers(_context, _parameter, text):
    """Read `"0,1,2"`."""
    return [int(number) for number in text.split(",")]


def _net(backbone, weights):
    return [f"backbone.name={backbone}", f"backbone.weights={weights}"]


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option("--backbone", default="efficientnet_lite0")
@click.option("--weights", default="imagenet")
@click.option("--seeds", default="0,1,2", callback=numbers)
def guide(data, backbone, weights, seeds):
    """The default recipe beside Keras's guide."""
    columns = ("seed", "epochs", "tlkit s", "guide s", "guide / tlkit", "tlkit test", "guide test")
    print("|", " | ".join(columns), "|\n|" + "---|" * len(columns))
    ratios, ours, theirs = [], [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            overrides = [*_net(backbone, weights), f"seed={seed}", *TWO_STAGES]
            seconds, run = run_tlkit("default", data, Path(folder), "run", overrides)
        for epochs in [run["epochs"], [2, 1]] if seed == seeds[0] else [run["epochs"]]:
            guide_seconds, accuracy = run_guide(data, backbone, weights, epochs, seed)
            ratio = guide_seconds / seconds
            if epochs == run["epochs"]:
                ratios.append(ratio)
                ours.append(run["accuracy"])
                theirs.append(accuracy)
            interval = "[{:.3f}, {:.3f}]".format(*run["accuracy_interval"])
            cells = [seed, "{} + {}".format(*epochs), f"{seconds:.0f}", f"{guide_seconds:.0f}", f"{ratio:.2f}"]
            print(
                "|", *(f"{c} |" for c in [*cells, f"{run['accuracy']:.3f} {interval}", f"{accuracy:.3f}"]), flush=True
            )
    accuracies = f"mean test accuracy {mean(ours):.3f}, the guide's {mean(theirs):.3f}"
    print(f"\nequal epochs: median ratio {median(ratios):.2f}; {accuracies}")


def run_guide(data, backbone, weights, epochs, seed):
    """Follow the guide in a process of its own; return its wall seconds and its test accuracy."""
    frozen, fine = epochs
    name = {"mobilenet_v2": "mobilenetv2"}.get(backbone, backbone)
    command = [str(Path(__file__).with_name("keras_guide.py")), data, "--backbone", name, "--weights", weights]
    command += ["--frozen-epochs", str(frozen), "--fine-epochs", str(fine), "--seed", str(seed)]
    seconds, found = run_process(command, "")
    return seconds, found["test_accuracy"]


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False))
@click.option("--backbone", default="efficientnet_lite0")
@click.option("--weights", default="imagenet")
@click.option("--repeats", default=3)
def second(data, backbone, weights, repeats):
    """A second run with another head beside the first."""
    print("| first s | its passes s | second s | its passes s | second / first |\n|---|---|---|---|---|")
    ratios = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            net = _net(backbone, weights)
            _, first = run_tlkit("feature_extraction", data, Path(folder), "first", net)
            _, again = run_tlkit("feature_extraction", data, Path(folder), "second", [*net, *OTHER_HEAD])
        ratios.append(again["seconds"] / first["seconds"])
        cells = [first["seconds"], first["pass_seconds"], again["seconds"], again["pass_seconds"], ratios[-1]]
        print("|", *(f"{cell:.3g} |" for cell in cells), flush=True)
    print(f"\nmedian {median(ratios):.2f}")


if __name__ == "__main__":
    main()
