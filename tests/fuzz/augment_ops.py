"""Fuzz policies that are lists of ops: any op, any of its settings, any values; what is taken must render a view."""

import json

from driver import fuzz

SETTINGS = ("scale", "limit", "size", "height", "width", "rotate", "blur_limit", "sigma", "num_steps", "fill", "p")


def load():
    import inspect

    import albumentations
    import atheris
    import numpy as np

    from tlkit.data.augment import OWN_OPS, _known_ops, training_view, view_seed
    from tlkit.data.policies import orientation_risk, upends

    known = _known_ops(albumentations)
    settings_of = {name: list(inspect.signature(op.__init__).parameters)[1:] for name, op in known.items()}
    settings_of |= {name: list(inspect.signature(maker).parameters) for name, maker in OWN_OPS.items()}
    names = sorted(settings_of)
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)

    def op_of(chooser):
        name = names[chooser.ConsumeIntInRange(0, len(names) - 1)]
        op = {"op": name}
        for _ in range(chooser.ConsumeIntInRange(0, 3)):
            settings = settings_of[name] or SETTINGS
            op[settings[chooser.ConsumeIntInRange(0, len(settings) - 1)]] = value_of(chooser, 2)
        return op

    def run(data):
        if data.startswith(b"["):
            ops = json.loads(data) if data.endswith(b"]") and data.count(b"[") < 20 and is_json(data) else []
        else:
            chooser = atheris.FuzzedDataProvider(data)
            ops = [op_of(chooser) for _ in range(chooser.ConsumeIntInRange(1, 2))]
        view = training_view(ops, 32, "squash")
        assert view(image, view_seed(0, 0, 0)).shape == (32, 32, 3)
        upends(ops)
        orientation_risk(ops, ("6", "9"))

    return run


def is_json(data):
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def value_of(chooser, depth):
    kind = chooser.ConsumeIntInRange(0, 7 if depth else 5)
    if kind == 0:
        return chooser.ConsumeIntInRange(-40_000, 40_000)
    if kind == 1:
        return chooser.ConsumeIntInRange(0, 9)
    if kind == 2:
        return chooser.ConsumeRegularFloat()
    if kind == 3:
        return chooser.ConsumeProbability()
    if kind == 4:
        return chooser.ConsumeBool()
    if kind == 5:
        return chooser.ConsumeUnicodeNoSurrogates(8)
    return [value_of(chooser, depth - 1) for _ in range(chooser.ConsumeIntInRange(0, 3))]


def seeds():
    for op in (
        {"op": "Affine", "rotate": [-10, 10], "p": 1.0},
        {"op": "RandomResizedCrop", "scale": [0.5, 1.0]},
        {"op": "RandAugment", "num_ops": 2, "magnitude": 9},
        {"op": "CoarseDropout", "num_holes_range": [1, 8]},
        {"op": "ZoomBlur", "max_factor": [1.0, 1.3]},
    ):
        yield json.dumps([op]).encode()
    yield bytes(range(64))


if __name__ == "__main__":
    watched = ["tlkit.data.augment", "tlkit.data.policies", "tlkit.data.op_bounds", "tlkit.data.op_table"]
    fuzz(load, seeds, watched, {"timeout": 60})
