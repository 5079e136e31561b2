"""Do the maps of `tlkit explain` lie on the object: their mass inside the horse's mask, beside that of a uniform map.

Run:     python tests/benchmarks/explain_mass.py DATA/weizmann [--fit squash] [--images 328] [--occluded 48]

EfficientNet-Lite0 with its original ImageNet top looks at photos of horses. Explained is the more probable of
ImageNet's two classes of horses, sorrel (339) and horse cart (603); zebra (340) is another animal. Photo and mask (a
pixel of at least 128) go through the same view. `inside` is the share of a map's mass inside the mask, of occlusion the
mass of what costs when it is hidden; `uniform` is the mask's share of the view; `ratio` is the quotient of their means,
with the 95 % interval of the percentile bootstrap over images. Maps without any mass are left out.

The last column is the sanity check of Adebayo et al. 2018 (https://arxiv.org/abs/1810.03292): Spearman's correlation of
a map with that of the same net whose kernels are shuffled, each within its layer. A map that says something of what the
net has learned is near 0.
"""

from pathlib import Path

import click
import cv2
import keras
import numpy as np
from scipy.stats import spearmanr

from tlkit.catalog import BACKBONES
from tlkit.data.augment import evaluation_view
from tlkit.data.decode import decode
from tlkit.evaluation.bootstrap import resampled_counts
from tlkit.evaluation.explain.gradients import grad_cams, guided_copy, input_gradients
from tlkit.evaluation.explain.occlusion import occlusion
from tlkit.evaluation.explain.targets import log_odds, logits_tensor
from tlkit.models.assemble import assemble
from tlkit.models.backbones import build_backbone, build_classifier
from tlkit.models.chain import fold
from tlkit.tasks import Task

NET, HORSES = "efficientnet_lite0", (339, 603)
TASKS = {"label": Task("single_label", tuple(str(number) for number in range(1000)))}
BATCH = 32


def build():
    """Return the net with its top, ending in a softmax of logits as tlkit's models do."""
    classifier = build_classifier(NET, weights="imagenet")

    def head(features):
        pooled = keras.layers.GlobalAveragePooling2D()(features)
        return keras.layers.Dense(1000, name="logits")(pooled)

    model = assemble(build_backbone(NET, weights="imagenet"), head, TASKS)
    model.get_layer("logits").set_weights(classifier.get_layer("predictions").get_weights())
    return model


def shuffled(seed=0):
    """Return the net with the values of every kernel in another order."""
    model, random = build(), np.random.default_rng(seed)
    for variable in model.weights:
        if len(variable.shape) > 1:
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(random.permutation(value.ravel()).reshape(value.shape))
    return model


def read(folder, fit, count):
    """Return views of the photos, uint8 `(n, size, size, 3)`, and of their masks, bool `(n, size, size)`."""
    size, views, masks = BACKBONES[NET].image_size, [], []
    for path in sorted((folder / "rgb").iterdir())[:count]:
        photo = decode(path.read_bytes())
        mask = decode((folder / "figure_ground" / path.name).read_bytes())
        mask = cv2.resize(mask, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        views.append(evaluation_view(photo, size, fit))
        masks.append(evaluation_view(mask, size, fit)[..., 0] >= 128)
    return np.stack(views), np.stack(masks)


def compute_maps(model, views, classes, occluded):
    """Return dict of map to float `(images, size, size)`, none below 0; occlusion is of the first `occluded` images."""
    ends = BACKBONES[NET].block_ends
    found = {"Grad-CAM": grad_cams(model, ends, TASKS, views, "label", classes)}
    compute = fold(keras.Model(model.inputs[0], logits_tensor(model, TASKS, "label")), BATCH)

    def score(images, index):
        padded = np.zeros((BATCH, *images.shape[1:]), np.float32)
        padded[: len(images)] = images
        logits = keras.ops.convert_to_numpy(compute(keras.ops.convert_to_tensor(padded)))[: len(images)]
        return log_odds(logits, index, "single_label")

    lost = [
        occlusion(lambda images, index=index: score(images, index), view, batch_size=BATCH)
        for view, index in zip(views[:occluded], classes, strict=False)
    ]
    found["occlusion"] = np.maximum(lost, 0)
    for name, net in (("gradient", model), ("guided backpropagation", guided_copy(model))):
        found[name] = np.abs(input_gradients(net, TASKS, views, "label", classes)).max(axis=-1)
    found["guided Grad-CAM"] = found["guided backpropagation"] * found["Grad-CAM"]
    return found


def ratio_interval(inside, uniform):
    """Return the ratio of two means over the same images, and its 95 % interval."""
    drawn = np.concatenate([(inside @ counts) / (uniform @ counts) for counts in resampled_counts(len(inside))])
    return inside.mean() / uniform.mean(), *np.percentile(drawn, (2.5, 97.5))


def correlation(maps, others):
    """Describe the mean of Spearman's correlations of maps with others, over images where both say anything."""
    pairs = [(one.ravel(), two.ravel()) for one, two in zip(maps, others, strict=False) if one.std() and two.std()]
    if not pairs:
        return "none: its maps are empty"
    return f"{np.mean([spearmanr(*pair).statistic for pair in pairs]):.2f} ({len(pairs)})"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fit", type=click.Choice(["squash", "crop"]), default="squash")
@click.option("--images", default=328, help="Photos, the first ones.")
@click.option("--occluded", default=48, help="Of them, those for occlusion, spread evenly.")
@click.option("--checked", default=16, help="Of those, the ones for the sanity check.")
def main(folder, fit, images, occluded, checked):
    """Print the table for the photos in FOLDER."""
    views, masks = read(folder, fit, images)
    spread = np.linspace(0, len(views) - 1, min(occluded, len(views))).round().astype(int)
    order = np.concatenate([spread, np.setdiff1d(np.arange(len(views)), spread)])
    views, masks = views[order], masks[order]
    model = build()
    probabilities = model.predict(views, batch_size=BATCH, verbose=0)
    classes = np.array(HORSES)[probabilities[:, HORSES].argmax(axis=1)]
    top = np.isin(probabilities.argmax(axis=1), HORSES).mean()
    print(f"{len(views)} photos, fit {fit}; a horse class is the most probable of 1000 for {top:.1%};")
    print(f"explained: sorrel {np.sum(classes == 339)}, horse cart {np.sum(classes == 603)}\n")
    maps = compute_maps(model, views, classes, len(spread))
    few = slice(0, min(checked, len(spread)))
    random = compute_maps(shuffled(), views[few], classes[few], len(spread))
    print("| map | photos | inside | uniform | ratio (95 %) | correlation with the shuffled net's (photos) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, values in maps.items():
        mass = values.sum(axis=(1, 2))
        told = mass > 0
        inside = (values * masks[: len(values)]).sum(axis=(1, 2))[told] / mass[told]
        uniform = masks[: len(values)].mean(axis=(1, 2))[told]
        ratio, low, high = ratio_interval(inside, uniform)
        cells = [f"{inside.mean():.3f}", f"{uniform.mean():.3f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})"]
        print(f"| {name} | {told.sum()} | {' | '.join(cells)} | {correlation(values, random[name])} |")


if __name__ == "__main__":
    main()
