"""Plain and residual nets of 20 and of 56 layers on some images of CIFAR-10, for a few epochs.

The training error is that of the paper's figure 6: of the training images as training sees them, cropped and
mirrored, counted while the epoch runs. Seeds decide first weights, order and augmentation; the images are the same.

The rate rises to 0.1 over the first fifth of the steps, for all four nets alike. Without that the plain net of 56
layers stays at chance: the first steps blow its lower weights up, and so few steps don't bring them back. The paper
begins its net of 110 layers with a low rate, too (He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2).
"""

import numpy as np

from tlkit.experiments.history import error_by_epoch
from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.pictures import Pool, even_share, scratch_recipe, write_list
from tlkit.experiments.study import Outcome

NETS = ("plain20_cifar", "plain56_cifar", "resnet20_cifar", "resnet56_cifar")
COLOURS = ("#7fb2dd", "#1f5fa8", "#f2a08c", "#c0281b")
WARMUP = 0.2  # of all steps
HELD_OUT = 100  # test images of each class, or as many as there are
HEADER = ("net", "training error %", "lowest", "highest", "held-out error %", "lowest error", "highest error")


def check(study):
    """Check that there are as many images as asked for, before TensorFlow loads."""
    _choose(study)


def measure(study):
    """Train the four nets with every seed; return the `Outcome`."""
    source = _lay_out(study)
    epochs = study.settings["epochs"]
    found = {net: {"training": [], "held_out": []} for net in NETS}
    deepest_first = sorted(NETS, key=lambda net: "56" not in net)
    planned = {
        (net, seed): (scratch_recipe(net, epochs, warmup=WARMUP), source)
        for net in deepest_first
        for seed in study.seeds
    }
    for (net, _), run in study.all_trained(planned):
        found[net]["training"].append(error_by_epoch(run))
        found[net]["held_out"].append(error_by_epoch(run, "val_accuracy"))
    rows = [_row(net, of_net) for net, of_net in found.items()]
    figures = {"error_percent_by_epoch": found}
    return Outcome(HEADER, rows, figures, _verdict(study, found), lambda f: _draw(f, found), (11, 4.8))


def _choose(study):
    """Return the pool, and a dict of the run's splits to the chosen names."""
    pool = Pool(study.settings["data"])
    per_class = even_share(study.settings["images"], pool)
    held_out = min(HELD_OUT, *map(len, pool.names["test"].values()))
    return pool, {"train": pool.choose("train", per_class, 0), "val": pool.choose("test", held_out, 0)}


def _lay_out(study):
    pool, splits = _choose(study)
    folder = study.path / "data"
    pool.lay_out([name for names in splits.values() for name in names], folder)
    write_list(folder / "images.csv", splits)
    return folder / "images.csv"


def _row(net, of_net):
    last = (spread([errors[-1] for errors in of_net[what]]) for what in ("training", "held_out"))
    return (net, *(f"{value:.2f}" for one in last for value in (one.mean, one.lowest, one.highest)))


def _verdict(study, found):
    last = {net: np.array([errors[-1] for errors in of_net["training"]]) for net, of_net in found.items()}
    plain = spread(last["plain56_cifar"] - last["plain20_cifar"])
    residual = spread(last["resnet56_cifar"] - last["resnet20_cifar"])
    shortcuts = spread(last["plain56_cifar"] - last["resnet56_cifar"])
    return (
        f"{judged(plain, 'The training error of the plain net of 56 layers exceeds that of 20')} "
        f"Of the residual nets, 56 layers have {residual.words(1, 'points')} more than 20. "
        f"{judged(shortcuts, 'At 56 layers the plain net errs more than the residual one')} "
        f"This is after {study.settings['epochs']} epochs on {study.settings['images']:,} images at a rate that rises "
        f"to 0.1 over the first {WARMUP:.0%} of the steps, with the training error counted while the last epoch runs: "
        "it shows how fast the nets are optimized, not the paper's converged result after 64,000 steps on 45,000 "
        "images."
    )


def _draw(figure, found):
    for axes, what, label in zip(
        figure.subplots(1, 2, sharey=True),
        ("training", "held_out"),
        ("training error (%), while the epoch runs", "error on held-out images (%)"),
        strict=True,
    ):
        for (net, of_net), colour in zip(found.items(), COLOURS, strict=True):
            values = np.array(of_net[what])
            epochs = np.arange(1, values.shape[1] + 1)
            axes.plot(epochs, values.mean(axis=0), "o-", markersize=3, color=colour, label=net.removesuffix("_cifar"))
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    figure.suptitle("CIFAR-10, plain and residual nets: the speed of optimization; bands: range over seeds")
