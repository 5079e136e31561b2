"""What a stage is predicted to take in memory beside what it takes: the peak of RssAnon over the built model's.

Run:     python tests/benchmarks/footprint.py NET UNFREEZE BATCH IMAGE_SIZE [--rows N] [--optimizer NAME]

One process a row: noise is taken through the frozen layers twice, then through two training steps, with as many copies
of the weights beside as a training keeps.
"""

import json
import time

import click
import numpy as np
from memory import Peak, anonymous_memory

TASKS = {"label": ("a", "b", "c")}


@click.command()
@click.argument("net")
@click.argument("unfreeze")
@click.argument("batch", type=int)
@click.argument("image_size", type=int)
@click.option("--rows", type=int, help="Images computed at once in training. Default: the batch.")
@click.option("--optimizer", default="adam")
def main(net, unfreeze, batch, image_size, rows, optimizer):
    """Print predicted and measured MB and their ratio."""
    import tlkit
    from tlkit.catalog import BUILDABLE
    from tlkit.recipe_keys import Stage
    from tlkit.tasks import Task
    from tlkit.training.footprint import COPIES, footprint
    from tlkit.training.stage import Craft

    tasks = {name: Task("single_label", classes) for name, classes in TASKS.items()}
    model = tlkit.build_model(net, tasks, weights="none", init="random", image_size=image_size)
    depth = unfreeze if unfreeze == "all" else int(unfreeze)
    stage = Stage(unfreeze=depth, epochs=1, learning_rate=1e-4, optimizer=optimizer)
    of_model = {"ends": BUILDABLE[net].block_ends, "tasks": tasks}
    found = footprint(model, stage, **of_model, craft=Craft())
    before = anonymous_memory()
    with Peak() as peak:
        work(model, stage, of_model, batch, rows, COPIES)
        time.sleep(0.1)
    predicted, measured = found.bytes(rows or batch, batch, batch), peak.bytes - before
    parts = {name: round(value / 1e6, 1) for name, value in vars(found).items()}
    figures = {"predicted_mb": predicted / 1e6, "measured_mb": measured / 1e6, "ratio": predicted / measured}
    print(json.dumps({"net": net} | {name: round(value, 2) for name, value in figures.items()} | parts))


def work(model, stage, of_model, batch, rows, copies):
    """Do what a stage does: the frozen layers, then steps."""
    from tlkit.models.chain import Chain
    from tlkit.training.features import Batch
    from tlkit.training.stage import StageTrainer, unfrozen_blocks
    from tlkit.training.variables import values_of

    chain = Chain(model, **of_model, batch_size=batch)
    images = np.random.default_rng(0).integers(0, 255, (batch, *model.input_shape[1:])).astype(np.uint8)
    position = chain.position(unfrozen_blocks(stage, of_model["ends"]))
    features = [chain.run(images, 0, [position])[0] for _ in range(2)][-1] if position else images.astype(np.float32)
    trainer = StageTrainer(model, stage, **of_model, steps_per_epoch=1, rows=rows)
    held = [values_of(trainer.suffix.variables) for _ in range(copies)] + [values_of(trainer.state_variables)]
    for step in range(2):
        trainer.train_step(Batch(features, {"label": np.zeros(batch, np.int32)}), step)
    del held


if __name__ == "__main__":
    main()
