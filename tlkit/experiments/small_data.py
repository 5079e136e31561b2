"""The small-data toolbox: what helps LeNet-5 that has few digits to learn from, each remedy alone."""

import numpy as np

from tlkit.experiments.digits import balanced, check_digits, read_digits
from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.study import Outcome
from tlkit.progress import Listener
from tlkit.recipe import read_recipe

TEST_IMAGES, MORE = 2000, 10
# Recipe of `recipes/small_data/` to what the chart calls it.
REMEDIES = {
    "nothing": "nothing",
    "more_data": f"{MORE} times the data",
    "smaller_net": "a smaller net",
    "l2": "L2",
    "l1": "L1",
    "dropout": "dropout",
    "multi_task": "a second task: odd or even",
    "augmentation": "augmentation",
    "transfer": "transfer: Lite0's features",
}


def check(study):
    """Check before anything is written that there are digits enough, also for the remedy that takes more of them."""
    check_digits(study, study.settings["images"] * MORE)


def measure(study):
    """Train every remedy with every seed, and return the `Outcome`."""
    (images, labels), test = read_digits(study.settings["data"])
    tested = balanced(test[1], min(TEST_IMAGES, len(test[1])), 0)
    test = test[0][tested], test[1][tested]
    found = {}
    for name in REMEDIES:
        count = study.settings["images"] * (MORE if name == "more_data" else 1)
        found[name] = [
            study.measured(
                f"{name}-{seed}", lambda n=name, c=count, s=seed: _train(study, n, s, c, images, labels, test)
            )
            for seed in study.seeds
        ]
    spreads = {
        name: {part: spread([100 * of_seed[part] for of_seed in of]) for part in ("train", "test")}
        for name, of in found.items()
    }
    gains = {
        name: spread([100 * (one["test"] - other["test"]) for one, other in zip(of, found["nothing"], strict=True)])
        for name, of in found.items()
        if name != "nothing"
    }
    return Outcome(
        ("against few digits", "train, %", "range", "test, %", "range", "test over nothing, points", "95 % interval"),
        [_row(name, spreads[name], gains.get(name)) for name in REMEDIES],
        {"accuracy": found, "test_images": len(tested)},
        _verdict(study, spreads, gains, len(tested)),
        lambda figure: _draw(figure, spreads, study),
        size=(9, 5.2),
    )


def _train(study, name, seed, count, images, labels, test):
    """Return the accuracies on the images that were fitted and on those for the test."""
    import tlkit

    chosen = balanced(labels, count, seed)
    values = read_recipe(f"small_data/{name}").model_dump()
    run = study.trained(
        name, seed, values, ((images[chosen], _tasks(values, labels[chosen])), (test[0], _tasks(values, test[1])))
    )
    fitted = chosen[run.data.indices("train")]  # the training images come first, in the order in which they are given
    again = tlkit.evaluate(run, data=(images[fitted], _tasks(values, labels[fitted])), listener=Listener())
    digit = next(iter(run.tasks))
    return {
        "train": again.metrics["tasks"][digit]["accuracy"],
        "test": run.metrics["test"]["tasks"][digit]["accuracy"],
    }


def _tasks(values, digits):
    """Return the labels as the recipe's tasks need them: the digit, and with a second task whether it is odd."""
    if "parity" not in values["tasks"]:
        return digits
    return {"digit": digits, "parity": np.where(digits % 2, "odd", "even")}


def _row(name, of, gain):
    cells = [REMEDIES[name]]
    for part in ("train", "test"):
        cells += [f"{of[part].mean:.1f}", f"{of[part].lowest:.1f} to {of[part].highest:.1f}"]
    return [*cells, *(("", "") if gain is None else (f"{gain.mean:+.1f}", f"{gain.low:+.1f} to {gain.high:+.1f}"))]


def _verdict(study, spreads, gains, tested):
    plain = spreads["nothing"]
    best = max((name for name in gains if name != "more_data"), key=lambda name: gains[name].mean)
    return " ".join(
        (
            f"LeNet-5 on {study.settings['images']} digits gets {plain['train'].mean:.1f} % of those right that it is "
            f"fitted to (some choose the epoch), and {plain['test'].mean:.1f} % of {tested:,} others.",
            judged(gains["more_data"], f"{MORE} times the data, seen a fifth as often, raise that"),
            judged(gains[best], f"Of the remedies that cost no labels, {REMEDIES[best]} raises it most,"),
            f"It came out best of {len(gains) - 1}, which its interval does not allow for.",
        )
    )


def _draw(figure, spreads, study):
    axes = figure.add_subplot()
    places = np.arange(len(REMEDIES))[::-1]
    for part, colour, marker in (("train", "#d95f02", "s"), ("test", "#1f62a8", "o")):
        of = [spreads[name][part] for name in REMEDIES]
        means = np.array([one.mean for one in of])
        reach = [means - [one.lowest for one in of], [one.highest for one in of] - means]
        axes.errorbar(means, places, xerr=reach, fmt=marker, color=colour, capsize=3, label=part)
    axes.hlines(
        places,
        [spreads[name]["test"].mean for name in REMEDIES],
        [spreads[name]["train"].mean for name in REMEDIES],
        color="#bbbbbb",
        zorder=0,
    )
    axes.axvline(spreads["nothing"]["test"].mean, color="#1f62a8", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, list(REMEDIES.values()))
    axes.set_xlabel(f"accuracy, %: mean and range over {len(study.seeds)} seeds")
    axes.set_title(f"{study.settings['images']} digits: what helps, each remedy alone")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
