"""Which backbone suits a data set: one feature pass each, linear probes on what comes out."""

import math
import time
from dataclasses import dataclass

import numpy as np

from tlkit.api import load_data
from tlkit.catalog import BACKBONES
from tlkit.data.index import Data
from tlkit.errors import DataError, RecipeError, WeightsError, did_you_mean
from tlkit.evaluation.metrics import headline_metric
from tlkit.progress import Listener
from tlkit.recipe import DEFAULT_RECIPE, read_recipe

MOST_IMAGES = 10_000  # whose order of backbones is that of more images, too
LEAST_IMAGES = 20
TIMED_BATCHES = 3


@dataclass(frozen=True, eq=False)
class Ranking:
    """Backbones in the order in which their frozen features suit the labels.

    Attributes:
        data: The `Data`.
        images: int64 array: positions of the images that were looked at, none of them for testing.
        places: List of `tlkit.search.rank.Place`, best first.
        left_out: Names of the backbones that weren't looked at: their weights aren't at hand, or time was up.
    """

    data: Data
    images: np.ndarray
    places: list
    left_out: list

    @property
    def best(self):
        """The name of the first backbone."""
        return self.places[0].suitability.backbone

    @property
    def cheapest(self):
        """The name of the fastest of those that can't be told from the first."""
        as_good = [place.suitability for place in self.places if place.as_good]
        return min(as_good, key=lambda one: one.image_seconds).backbone

    def describe(self):
        """Return all of it as a JSON-able dict."""
        return {
            "n": len(self.images),
            "tasks": {name: {"kind": task.kind} for name, task in self.data.tasks.items()},
            "best": self.best,
            "cheapest_as_good": self.cheapest,
            "backbones": [self._describe(place) for place in self.places],
            "left_out": self.left_out,
        }

    def _describe(self, place):
        one, tasks = place.suitability, {}
        for name, task in self.data.tasks.items():
            metric, interval = headline_metric(task.kind)
            tasks[name] = {
                metric: one.figures[name][0],
                interval: one.figures[name][1],
                f"ridge_{metric}": one.ridge[name],
            }
        return {
            "backbone": one.backbone,
            "tasks": tasks,
            "loss": one.loss,
            "log_evidence": one.log_evidence,
            "milliseconds_per_image": 1000 * one.image_seconds,
            "parameters": one.parameters,
            "pareto": place.on_front,
            "gain": place.gain,
            "gain_interval": place.gain_interval,
            "p": place.p,
            "as_good_as_the_best": place.as_good,
            "seconds": one.seconds,
        }


def rank(source, *, backbones=(), weights=None, download=False, tasks=None, group_by="", seed=0, listener=None):
    """Rank backbones by how well their frozen features tell the labels of a data set.

    Each backbone sees every training and validation image once, and none for testing. Linear probes are fitted on its
    pooled features and judged by cross-validation. The features are kept, the probes are fitted anew each time.

    Args:
        source: `Data`, or a source as for `load_data`.
        backbones: Their names; by default those whose ImageNet weights are at hand.
        weights: Dict of backbone to where its weights come from, as for `build_model`; by default `"imagenet"`.
        download: Whether to take all backbones, and to download the weights that aren't at hand.
        tasks, group_by, seed: As for `load_data`; for a source only.
        listener: `Listener` for progress and notes.

    Returns:
        `Ranking`.

    Raises:
        DataError: If the data can't be used, or there are fewer than 20 images.
        WeightsError: If there is no such backbone, or its weights can't be had.
        RecipeError: If weights are given for a backbone that isn't to be ranked.
    """
    listener = listener or Listener()
    recipes, left_out = _choose(backbones, weights or {}, download)
    data = source
    if not isinstance(source, Data):
        data = load_data(source, tasks=tasks, group_by=group_by, seed=seed, listener=listener)
    images = _images(data)
    if left_out:
        listener.note(f"{len(left_out)} backbones left out whose weights are not at hand; --download ranks them, too")
    listener.note(_describe_images(data, images))
    return _rank(data, images, recipes, left_out, listener)


def rank_within(data, first, most, until, listener):
    """Rank the backbones whose weights are at hand, from the smallest on, for as long as time allows.

    Args:
        data: `Data`.
        first: Name of the one that is looked at in any case.
        most: Number of images to look at, at most.
        until: When the ranking has to be over, on the clock of `time.monotonic`. The next backbone is taken for twice
            as slow as the last.
        listener: `Listener` for progress and notes.

    Returns:
        `Ranking`; None if there is only one to look at.
    """
    recipes, _ = _choose((), {}, False)
    recipes.sort(key=lambda recipe: (recipe.backbone.name != first, BACKBONES[recipe.backbone.name].parameters))
    if len(recipes) < 2 or recipes[0].backbone.name != first:
        return None
    return _rank(data, _images(data, most), recipes, [], listener, until)


def _rank(data, images, recipes, left_out, listener, until=math.inf):
    from tlkit.evaluation.out_of_fold import deal_folds
    from tlkit.search import rank as search

    labels = {name: values[images] for name, values in data.labels.items()}
    fold = deal_folds(images, data.labels, data.groups, data.paths, data.seed)
    candidates = []
    for number, recipe in enumerate(recipes, start=1):
        if candidates and time.monotonic() + 2 * candidates[-1].seconds > until:
            left_out = [*left_out, *(late.backbone.name for late in recipes[number - 1 :])]
            break
        listener.note(f"{recipe.backbone.name}, {number} of {len(recipes)}")
        candidates.append(_judge(data, images, labels, fold, recipe, listener))
    return Ranking(data, images, search.rank(candidates, labels, data.tasks), left_out)


def _choose(backbones, weights, download):
    """Return a recipe for each backbone to rank, its weights checked, and the names of those left out."""
    from tlkit.models.weights import at_hand, check_weights

    named = list(dict.fromkeys(backbones))
    for name in [*named, *weights]:
        if name not in BACKBONES:
            hint = did_you_mean(name, BACKBONES)
            raise WeightsError(f"There is no pretrained backbone {name!r} to rank.{hint} `tlkit backbones` lists them.")
    chosen = named or [name for name in BACKBONES if download or name in weights or at_hand(name)]
    for name in weights:
        if name not in chosen:
            raise RecipeError(f"--weights {name}: only for a backbone that is ranked. Add --backbone {name}.")
    recipes = []
    for name in chosen:
        check_weights(name, weights.get(name, "imagenet"))
        recipes.append(
            read_recipe(DEFAULT_RECIPE, (), {"backbone.name": name, "backbone.weights": weights.get(name, "imagenet")})
        )
    return recipes, [] if named else [name for name in BACKBONES if name not in chosen]


def _images(data, most=MOST_IMAGES):
    """Return the positions of the images to look at, spread over classes and groups where they are too many."""
    from tlkit.data.splits import assign

    images = np.flatnonzero(data.split != "test").astype(np.int64)
    if len(images) < LEAST_IMAGES:
        raise DataError(f"{data.source}: {len(images)} images besides those for testing; ranking needs {LEAST_IMAGES}.")
    if len(images) <= most:
        return images
    share = most / len(images)
    labels = {name: values[images] for name, values in data.labels.items()}
    names, groups = ([values[i] for i in images] for values in (data.paths, data.groups))
    return images[assign(names, groups, labels, {"seen": share, "unseen": 1 - share}, data.seed) == "seen"]


def _describe_images(data, images):
    tested = len(data.indices("test"))
    some = "" if len(images) == len(data) - tested else f" of {len(data) - tested:,}"
    unseen = f"; the {tested:,} test images stay unseen" if tested else ""
    return f"ranked on {len(images):,}{some} training and validation images, five-fold{unseen}"


def _judge(data, images, labels, fold, recipe, listener):
    """Return the `Suitability` of one backbone."""
    from tlkit.api.pooled import pooled_features
    from tlkit.search.rank import Suitability, judge

    started = time.monotonic()
    features, chain = pooled_features(data, recipe, listener, images)
    found = judge(features, labels, data.tasks, fold)
    return Suitability(
        recipe.backbone.name,
        image_seconds=_image_seconds(chain),
        parameters=BACKBONES[recipe.backbone.name].parameters,
        seconds=time.monotonic() - started,
        **found,
    )


def _image_seconds(chain):
    """Return the seconds that a batch takes from images to pooled features, for each of its images; the median."""
    shape = (chain.batch_size, chain.image_size, chain.image_size, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    seconds = []
    for _ in range(TIMED_BATCHES + 1):  # the first builds what the others run
        started = time.monotonic()
        chain.run(batch, 0, [chain.position(0)])
        seconds.append(time.monotonic() - started)
    return float(np.median(seconds[1:])) / chain.batch_size
