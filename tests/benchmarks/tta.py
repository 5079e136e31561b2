"""What test-time views are worth and what they cost, as tables.

Run:     python tests/benchmarks/tta.py runs RUN...
         python tests/benchmarks/tta.py photos DATA/imagenet100 WEIGHTS
         python tests/benchmarks/tta.py cost RUN [--images 160] [--repeats 3]

`runs`: the test images of all runs (the folds of one data set, say) pooled, each predicted by its run with each set of
views; `auto` is what each run's validation images choose. `photos`: labelled ImageNet photos through nets with their
original tops; without a validation split, `auto` is chosen crosswise, each fifth by the other four. Behind the accuracy
its gain over one view with the paired 95 % interval, predictions that become right and wrong, and McNemar's exact p.
The cost is in forward passes an image. `cost`: seconds of K views over K times those of one, nothing kept; the
processor's own, of all threads, are hardly disturbed by what else a machine does.
"""

import csv
import json
import time
from pathlib import Path

import click
import numpy as np

AVERAGE = click.option("--average", default="probabilities")
NETS = {
    "resnet50": "resnet50_imagenet.weights.h5",
    "mobilenet_v2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
    "efficientnet_lite0": None,
}
HEADER = (
    "| {} | views | accuracy | gain, points (95 % interval) | right now : wrong now | p | passes |\n" + "|---" * 7 + "|"
)


def print_row(what, name, labels, plain, averaged, task, passes):
    """Print a set's row; `plain` and `averaged` are probabilities."""
    from tlkit.evaluation.compare import paired_difference

    found = paired_difference(labels, plain, averaged, task)
    low, high = (100 * bound for bound in found.interval)
    gain = f"{100 * found.gain:+.1f} ({low:+.1f} to {high:+.1f})" if name != "none" else ""
    flips, p = (f"{found.won} : {found.lost}", f"{found.p:.2f}") if name != "none" else ("", "")
    print(f"| {what} | {name} | {found.second:.3f} | {gain} | {flips} | {p} | {passes:g} |", flush=True)


def candidate_sets():
    from tlkit.api.tta import CANDIDATES
    from tlkit.data.tta import TEST_TIME_VIEWS

    return {name: TEST_TIME_VIEWS[name] for name in ("none", *CANDIDATES)}


def open_run(path):
    """Return a run and its data, split as they were."""
    import tlkit
    from tlkit.data.index import load, with_split

    run = tlkit.load_run(path)
    data = load(json.loads((run.path / "data.json").read_text())["source"], split=False)
    with (run.path / "splits.csv").open() as file:
        split_of = {row["path"]: row["split"] for row in csv.DictReader(file)}
    return run, with_split(data, np.array([split_of.get(path, "") for path in data.paths]))


@click.group()
def main():
    """Print one table."""


@main.command()
@click.argument("paths", nargs=-1, required=True)
@AVERAGE
def runs(paths, average):
    """Pool the test images of finished runs."""
    from tlkit.evaluation.tta import choose_views, measure_views

    sets, parts, labels, chosen = candidate_sets(), [], [], []
    for path in paths:
        run, data = open_run(path)
        ((name, task),) = run.tasks.items()
        predicted = {}
        for split in ("val", "test"):
            indices = data.indices(split)
            predicted[split] = run.predict_sets(data, indices, sets, average=average), data.labels[name][indices]
        (on_val, truth), (on_test, tested) = predicted["val"], predicted["test"]
        rows = []
        for candidate, views in sets.items():
            if candidate != "none":
                measured = ({name: truth}, on_val["none"], on_val[candidate], run.tasks)
                rows += measure_views(candidate, len(views), "val", *measured)
        best, reason = choose_views(rows)
        print(f"{path}: {reason}", flush=True)
        chosen.append(best)
        labels.append(tested)
        parts.append({candidate: of[name] for candidate, of in on_test.items()} | {"auto": on_test[best][name]})
    pooled = {candidate: np.concatenate([part[candidate] for part in parts]) for candidate in parts[0]}
    labels, what = np.concatenate(labels), f"{Path(data.source).name}, {len(paths)} runs"
    print(HEADER.format("data"))
    for candidate, values in pooled.items():
        passes = np.mean([len(sets[best]) for best in chosen]) if candidate == "auto" else len(sets[candidate])
        print_row(what, candidate, labels, pooled["none"], values, task, passes)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path))
@AVERAGE
def photos(folder, weights, average):
    """Classify ImageNet photos with nets of original tops."""
    import keras

    from tlkit.data.decode import decode
    from tlkit.data.pipeline import side_needed
    from tlkit.evaluation.tta import average as averaged
    from tlkit.evaluation.tta import cross_fit
    from tlkit.models.backbones import build_classifier
    from tlkit.tasks import Task

    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = {"label": np.array([int(row["class_index"]) for row in rows])}
    task, sets = Task("single_label", tuple(map(str, range(1000)))), candidate_sets()
    print(HEADER.format("net"))
    for net, file in NETS.items():
        keras.backend.clear_session()
        model = build_classifier(net, weights=weights / file if file else "imagenet")
        size, values = model.input_shape[1], {}
        images = [decode((folder / row["path"]).read_bytes(), side_needed(size)) for row in rows]
        for view in {view for views in sets.values() for view in views}:
            rendered = np.stack([view.render(image, size) for image in images])
            values[view] = model.predict(rendered, batch_size=20, verbose=0)
        found = {
            name: averaged(np.stack([values[view] for view in views]), task.kind, average)
            for name, views in sets.items()
        }
        candidates = {name: (len(sets[name]), {"label": of}) for name, of in found.items() if name != "none"}
        plain, tasks = {"label": found["none"]}, {"label": task}
        crossed, chosen = cross_fit("photos", labels, plain, candidates, tasks)
        for name, of in (found | {"auto": crossed["label"]}).items():
            passes = np.mean([len(sets[best]) for best in chosen]) if name == "auto" else len(sets[name])
            print_row(net, name, labels["label"], found["none"], of, task, passes)


@main.command()
@click.argument("path")
@click.option("--images", default=160)
@click.option("--repeats", default=3)
def cost(path, images, repeats):
    """Time K views against one on images of a run's data."""
    from tlkit.data.pipeline import Views
    from tlkit.data.tta import TEST_TIME_VIEWS
    from tlkit.evaluation.infer import predict_images

    run, data = open_run(path)
    views = Views(data, image_size=run.inputs["image_size"], fit=run.inputs["fit"])
    seconds, indices = {name: [] for name in TEST_TIME_VIEWS}, np.arange(len(data))[:images]
    predict_images(run.chain, views, np.arange(run.chain.batch_size), run.tasks)  # folds the weights in
    for _ in range(repeats):
        for name in seconds:
            started = time.perf_counter(), time.process_time()
            predict_images(run.chain, views, indices, run.tasks, tta=name)
            seconds[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    print(f"{len(indices)} images, {run.chain.describe(1).split()[0]}, batches of {run.chain.batch_size}")
    print(
        "| views | K | seconds | K views / (K x one) | processor seconds | K views / (K x one) |\n" + "|---" * 6 + "|"
    )
    one = np.median(seconds["none"], axis=0)
    for name, taken in seconds.items():
        count, (wall, processor) = len(TEST_TIME_VIEWS[name]), np.median(taken, axis=0)
        ratios = (wall, processor) / (count * one)
        print(f"| {name} | {count} | {wall:.1f} | {ratios[0]:.2f} | {processor:.1f} | {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
