"""The parts of an explanation, computed from a run and drawn."""

from functools import cached_property

import numpy as np

from tlkit.data.labels import JOINT, label_texts
from tlkit.data.pipeline import Views, view_batches
from tlkit.errors import DataError

NEIGHBOURS, MOST_COMPARED = 6, 1000  # training images that are shown, and that are compared
CHANNELS, STRONGEST, MOST_SEARCHED = 5, 6, 300  # channels, images of each, training images that are searched
MADE_UP = 3  # channels for which an image is made up, besides the class
BARS = 5


class Explainer:
    """A run that explains itself; what several images need is computed once.

    Args:
        run: `tlkit.delivery.predict.Run`.
        listener: `Listener` for progress and notes.
        maps: Names in `tlkit.api.explaining.MAPS`.
        layer: Name of the layer whose feature maps are looked at; None for the last block end.
        seed: Whole number that decides the noise from which images are made up.

    Every part is a method of `(subject, found)`: it returns a figure, and adds what it shows to the `Explanation`.

    Raises:
        TlkitError: If the layer is not there, or has no feature maps.
    """

    def __init__(self, run, listener, maps, layer=None, seed=0):
        self._run, self._listener, self._maps, self._layer, self._seed = run, listener, maps, layer, seed
        self._logits, self._made_up, self._sloped = {}, {}, (None, None)
        self._ends = run.inputs["block_ends"]
        listener.engine_needed()
        from tlkit.evaluation.explain.targets import feature_map

        self._net = run.model, self._ends, run.tasks  # as the functions of `tlkit.evaluation.explain` take them
        feature_map(run.model, self._ends, layer)

    @property
    def _layer_name(self):
        return self._layer or self._ends[-1]

    @cached_property
    def _guided(self):
        from tlkit.evaluation.explain.gradients import guided_copy

        return guided_copy(self._net[0])

    def _score(self, images, subject):
        """Return the log odds of the class in each image, float64 `(n,)`; for a number, the number."""
        from tlkit.evaluation.explain.targets import log_odds, logits_tensor

        model, _, tasks = self._net
        task = tasks[subject.task]
        if subject.task not in self._logits:
            self._logits[subject.task] = self._folded(logits_tensor(model, tasks, subject.task))
        values = log_odds(self._logits[subject.task](images), subject.index, task.kind)
        return values * task.scale + task.mean if task.kind == "regression" else values

    def maps(self, subject, found):
        """Draw the maps over the image."""
        from tlkit.evaluation.explain.sheets import draw_maps

        for name in self._maps:
            found.maps[name] = self._map(name, subject, found.maps)
        truth = f" (true: {_words(subject.truth, subject.answer.kind)})" if subject.truth else ""
        unit = "" if subject.answer.kind == "regression" else "log odds"
        return draw_maps(subject.view, found.maps, f"{_name(subject)}: {subject.words}{truth}", unit)

    def _map(self, name, subject, known):
        from tlkit.evaluation.explain import gradients
        from tlkit.evaluation.explain.occlusion import occlusion

        model, _, tasks = self._net
        what = (subject.view[None], subject.task, [subject.index])
        if name == "grad_cam":
            return gradients.weighed(*self._maps_and_slopes(subject), subject.view.shape[:2])[0]
        if name == "gradient":
            return np.abs(gradients.input_gradients(model, tasks, *what)[0]).max(axis=-1)
        if name == "guided":
            return np.abs(gradients.input_gradients(self._guided, tasks, *what)[0]).max(axis=-1)
        if name == "guided_grad_cam":
            needed = ("guided", "grad_cam")
            guided, coarse = (known[n] if n in known else self._map(n, subject, known) for n in needed)
            return guided * coarse
        batch_size = self._run.inputs["batch_size"]
        return occlusion(lambda images: self._score(images, subject), subject.view, batch_size=batch_size)

    def filters(self, subject, found):
        """Draw the first layer's filters."""
        from tlkit.evaluation.explain.filters import as_pictures, first_filters, strongest_first
        from tlkit.evaluation.explain.sheets import draw_filters

        model, _, _ = self._net
        name, kernels = first_filters(model)
        order, lengths = strongest_first(kernels)
        title = (
            f"{model.name}: the {len(kernels)} filters of {name}, {kernels.shape[1]} x {kernels.shape[2]} pixels, "
            f"longest ({lengths[0]:.3g}) to shortest ({lengths[-1]:.3g}), each by its own largest weight; grey is 0"
        )
        return draw_filters(as_pictures(kernels[order]), title)

    @cached_property
    def _data(self):
        from tlkit.api.scoring import own_data

        return own_data(self._run, self._listener)

    @cached_property
    def _views(self):
        return Views(self._data, image_size=self._run.inputs["image_size"], fit=self._run.inputs["fit"])

    def _training_images(self, most):
        """Return so many training images, ascending, drawn at random where there are more, and a note on that."""
        images = self._data.indices("train")
        if not len(images):
            raise DataError(f"{self._data.source}: none of its images are training images of the run")
        if len(images) <= most:
            return images, f"all {len(images):,} training images"
        drawn = np.random.default_rng(0).choice(images, most, replace=False)
        return np.sort(drawn), f"{most:,} training images, drawn from {len(images):,}"

    @cached_property
    def _pooled(self):
        """Training images, their pooled features `(n, features)`, and a note on how many they are."""
        from tlkit.evaluation.explain.neighbours import pooled
        from tlkit.training.features import KeptFeatures
        from tlkit.training.repeatable import describe_engine
        from tlkit.training.store import DiskStore, StoreError

        images, note = self._training_images(MOST_COMPARED)
        chain, view = self._run.chain, self._views.evaluation()
        position = chain.position(0)
        try:
            store = DiskStore(note=self._listener.note)
            kept = KeptFeatures(store, chain, view, self._data, images, describe_engine())
            for _ in kept.ensure([position], position, self._listener):
                pass
            features = np.array(kept.rows(position, images))
        except StoreError:  # then they are computed all the same, and not kept
            batches = view_batches(view, images, chain.batch_size)
            features = np.concatenate([chain.run(batch, 0, [position])[0] for batch in batches])
        return images, pooled(features), note

    def neighbours(self, subject, found):
        """Draw the figure of Krizhevsky et al.: the image, its most probable labels, its nearest training images."""
        from tlkit.evaluation.explain.neighbours import nearest, pooled
        from tlkit.evaluation.explain.sheets import draw_neighbours, draw_number

        images, features, note = self._pooled
        chain, data, task = self._run.chain, self._data, self._run.tasks[subject.task]
        own = pooled(chain.run(subject.view[None], 0, [chain.position(0)])[0])[0]
        chosen, distances = nearest(features, own, NEIGHBOURS)
        labels = label_texts(data.tasks[subject.task], data.labels[subject.task][images[chosen]])
        render, shown = self._views.evaluation().render, []
        for image, label, distance in zip(images[chosen], labels, distances, strict=True):
            found.neighbours.append({"path": data.paths[image], "label": label, "distance": float(distance)})
            shown.append((render(int(image)), _words(label, task.kind), distance))
        where = f", a {subject.split} image of the run" if subject.split else ""
        title = f"{_name(subject)}{where}; neighbours among {note}"
        caption = f"true: {_words(subject.truth, task.kind)}" if subject.truth else "true label not known"
        if task.kind == "regression":
            truth = float(subject.truth) if subject.truth else None
            return draw_number(subject.view, caption, subject.answer.value, truth, shown, subject.task, title)
        bars = list(subject.answer.probabilities.items())[:BARS]
        known = subject.truth.split(JOINT) if task.kind == "multilabel" else [subject.truth]
        return draw_neighbours(subject.view, caption, bars, known, shown, title)

    def _maps_and_slopes(self, subject):
        """Return what `tlkit.evaluation.explain.gradients.maps_and_slopes` does; three parts need it."""
        from tlkit.evaluation.explain.gradients import maps_and_slopes

        if self._sloped[0] is not subject:
            what = (subject.view[None], subject.task, [subject.index])
            self._sloped = subject, maps_and_slopes(*self._net, *what, layer=self._layer)
        return self._sloped[1]

    def _leading(self, subject, count):
        """Return the channels that speak most for the class in the image."""
        from tlkit.evaluation.explain.channels import leading_channels

        (maps,), (slopes,) = self._maps_and_slopes(subject)
        return leading_channels(maps, slopes, count)

    @cached_property
    def _feature_maps(self):
        """Function of images, uint8 `(n, size, size, 3)`, to the layer's feature maps before their activation."""
        from tlkit.evaluation.explain.targets import before_gate, feature_map

        model, ends, _ = self._net
        return self._folded(before_gate(model, feature_map(model, ends, self._layer)))

    def _folded(self, outputs):
        """Return a function from images, uint8 `(n, size, size, 3)`, `n` at most the batch size, to what they give."""
        import keras

        from tlkit.models.chain import fold

        size = self._run.inputs["batch_size"]
        compute = fold(keras.Model(self._run.model.inputs[0], outputs), size)

        def call(images):
            padded = np.zeros((size, *images.shape[1:]), np.float32)
            padded[: len(images)] = images
            return keras.ops.convert_to_numpy(compute(keras.ops.convert_to_tensor(padded)))[: len(images)]

        return call

    def channels(self, subject, found):
        """Draw the training images that make those channels strongest that speak most for the class."""
        import cv2

        from tlkit.evaluation.explain.channels import strongest_images
        from tlkit.evaluation.explain.gradients import unit
        from tlkit.evaluation.explain.sheets import draw_channels

        images, note = self._training_images(MOST_SEARCHED)
        leading = self._leading(subject, CHANNELS)
        render, rows = self._views.evaluation().render, []
        for strongest in strongest_images(self._searched(images), leading, STRONGEST):
            shown = np.stack([render(int(image)) for image in strongest.images])
            side = shown.shape[1:3]
            maps = [unit(cv2.resize(np.maximum(one, 0), side, interpolation=cv2.INTER_CUBIC)) for one in strongest.maps]
            rows.append((f"channel {strongest.channel}", shown, np.stack(maps), strongest.peaks))
            pairs = zip(strongest.images, strongest.peaks, strict=True)
            shown = [{"path": self._data.paths[image], "peak": float(peak)} for image, peak in pairs]
            found.channels.append({"channel": strongest.channel, "images": shown})
        title = (
            f"The channels of {self._layer_name} that speak most for {subject.class_name} in {_name(subject)}, and "
            f"where they are strongest among {note} (peak before the activation; the line is half of it)"
        )
        return draw_channels(rows, title)

    def _searched(self, images):
        """Yield `(images, feature maps)` of some training images."""
        size, done = self._run.chain.batch_size, 0
        for batch in view_batches(self._views.evaluation(), images, size):
            yield images[done : done + len(batch)], self._feature_maps(batch)
            done += len(batch)
            self._listener.images_predicted(done, len(images), "training images, for channels")

    def ascent(self, subject, found):
        """Draw images made up by gradient ascent: for the class, and for the channels that speak most for it."""
        from tlkit.evaluation.explain.ascent import maximize
        from tlkit.evaluation.explain.gradients import ascent_slopes
        from tlkit.evaluation.explain.sheets import draw_ascent

        leading = self._leading(subject, MADE_UP)
        key = (subject.task, subject.index, *leading.tolist())
        if key not in self._made_up:
            slopes = ascent_slopes(*self._net, subject.task, subject.index, leading, self._layer)
            shape = (1 + len(leading), *subject.view.shape)
            what = "steps of gradient ascent"
            self._made_up[key] = maximize(
                slopes, shape, seed=self._seed, on_step=lambda *done: self._listener.images_predicted(*done, what)
            )
        images, first, last = self._made_up[key]
        names = [subject.class_name, *(f"channel {channel}" for channel in leading)]
        whats = ["logit", *["mean"] * len(leading)]
        captions = [
            f"{name}\n{what} {before:.3g} to {after:.3g}"
            for name, what, before, after in zip(names, whats, first, last, strict=True)
        ]
        title = f"Images made up by gradient ascent: for {subject.class_name}, and for channels of {self._layer_name}"
        return draw_ascent(images, captions, title)


def _name(subject):
    return subject.path.replace("\\", "/").rpartition("/")[2]


def _words(label, kind):
    """Return a label as it is shown: several labels with a plus between them."""
    return (label.replace(JOINT, " + ") if kind == "multilabel" else label) or "unlabelled"
