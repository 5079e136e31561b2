"""Every tool does what it says: each of these fails if its tool is silently inactive."""

import itertools

import keras
import numpy as np
import pytest
from two_blocks import (
    BATCH,
    ENDS,
    STEPS,
    TASKS,
    Batches,
    StopAfter,
    make_batches,
    make_model,
    make_training,
    train,
)

from tlkit.errors import Stopped
from tlkit.models.assemble import cut, variables_by_block
from tlkit.models.chain import Chain
from tlkit.progress import Listener
from tlkit.recipe_keys import Stage
from tlkit.training.checkpoint import Checkpoint
from tlkit.training.features import Batch
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.rules import class_weights
from tlkit.training.stage import Craft, StageTrainer, computing_in
from tlkit.training.variables import values_of

PLAIN = {"optimizer": "sgd", "schedule": "constant"}


def value(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def still_model():
    """Return the small model without dropout, so that a step is a formula."""
    model = make_model()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def trainer_of(model, craft=None, **stage):
    stage = Stage(**({"unfreeze": "all", "epochs": 1, "learning_rate": 1e-2} | PLAIN | stage))
    return StageTrainer(model, stage, ends=ENDS, tasks=TASKS, steps_per_epoch=STEPS, craft=craft)


def batch_at(model, unfreeze=2, number=0, **changes):
    images, labels = (make_batches()[number][key] for key in ("image", "labels"))
    position = Chain(model, ENDS, TASKS, BATCH).position(unfreeze)
    features = Chain(model, ENDS, TASKS, BATCH).run(images, 0, [position])[0] if position else images.astype("float32")
    return Batch(**({"features": features, "labels": labels} | changes))


def kernels(model):
    return {name: value(model.get_layer(name).kernel) for name in ("conv1", "conv2", "logits")}


def norms_after(craft=None, steps=30, **stage):
    model = still_model()
    trainer = trainer_of(model, craft, **stage)
    for step in range(steps):
        trainer.train_step(batch_at(model, number=step % STEPS), step)
    return {name: float(np.linalg.norm(kernel)) for name, kernel in kernels(model).items()}


def first_step(craft=None, batch=None, **stage):
    """Return what one step changes each kernel by."""
    model = still_model()
    before = kernels(model)
    trainer_of(model, craft, **stage).train_step(batch or batch_at(model), step=0)
    return {name: kernel - before[name] for name, kernel in kernels(model).items()}


def test_l2_shrinks_every_kernel_that_trains():
    free, held = norms_after(), norms_after(Craft(l2=0.1))
    assert all(held[name] < 0.95 * free[name] for name in free)


def test_l2_adds_twice_its_weight_times_the_kernel_to_the_gradient():
    kernel = kernels(still_model())["conv1"]
    plain, held = first_step(), first_step(Craft(l2=0.05))
    # Nesterov's first step goes rate * 1.9 along the gradient.
    np.testing.assert_allclose(held["conv1"] - plain["conv1"], -1e-2 * 1.9 * 2 * 0.05 * kernel, atol=1e-7)


def test_l1_adds_its_weight_times_the_sign():
    kernel = kernels(still_model())["logits"]
    plain, held = first_step(), first_step(Craft(l1=0.05))
    np.testing.assert_allclose(held["logits"] - plain["logits"], -1e-2 * 1.9 * 0.05 * np.sign(kernel), atol=1e-7)


def test_decoupled_weight_decay_shrinks_kernels_by_its_share_of_the_rate_and_nothing_else():
    before = still_model()
    plain, decayed = (first_step(weight_decay=decay) for decay in (0.0, 0.5))
    expected = -1e-2 * 0.5 * kernels(before)["conv2"]
    np.testing.assert_allclose(decayed["conv2"] - plain["conv2"], expected, atol=1e-6)
    models = [still_model(), still_model()]
    for model, decay in zip(models, (0.0, 0.5), strict=True):
        model.get_layer("conv1").bias.assign(np.ones(4, "float32"))
        trainer_of(model, weight_decay=decay).train_step(batch_at(model), step=0)
    np.testing.assert_array_equal(*(value(model.get_layer("conv1").bias) for model in models))


def test_l2_sp_pulls_to_the_pretrained_values(tmp_path):
    """With next to no loss to follow, layers that were moved away return to where the training found them."""
    distances = {}
    for weight in (0.0, 1.0):
        model = still_model()
        pretrained = kernels(model)
        stages = [Stage(unfreeze="all", epochs=20, learning_rate=3e-2, **PLAIN)]
        train(make_training(model, stages, l2_sp=weight), tmp_path / str(weight))
        after = kernels(model)
        distances[weight] = {name: np.linalg.norm(after[name] - pretrained[name]) for name in pretrained}
    assert distances[1.0]["conv1"] < 0.5 * distances[0.0]["conv1"]
    assert distances[1.0]["conv2"] < 0.5 * distances[0.0]["conv2"]
    assert distances[1.0]["logits"] > 0.1  # the head is new: nothing to return to


def test_discriminative_rates_move_blocks_by_the_stated_ratios():
    same, falling = (first_step(block_factor=factor) for factor in (1.0, 0.25))
    for name, share in {"logits": 1.0, "conv2": 0.25, "conv1": 0.0625}.items():
        np.testing.assert_allclose(falling[name], share * same[name], rtol=1e-3, atol=1e-7)


def test_discriminative_rates_hold_under_adam():
    """Adam's first step moves by the rate, whatever the gradient: scaling gradients would do nothing."""
    moved = first_step(block_factor=0.1, optimizer="adam")
    for name, rate in {"logits": 1e-2, "conv2": 1e-3, "conv1": 1e-4}.items():
        assert np.median(np.abs(moved[name])) == pytest.approx(rate, rel=1e-2)


def test_blocks_are_the_papers_groups_from_the_head_down():
    head, second, first = variables_by_block(make_model(), ENDS)
    assert [
        {variable.path.split("/")[0] for variable in block} & {"conv1", "conv2", "logits"}
        for block in (head, second, first)
    ] == [{"logits"}, {"conv2"}, {"conv1"}]


def test_the_moving_average_equals_its_formula():
    model = still_model()
    trainer = trainer_of(model, Craft(ema=0.5))
    expected = value(model.get_layer("logits").kernel)
    for step in range(8):
        trainer.train_step(batch_at(model, number=step % STEPS), step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value(model.get_layer("logits").kernel)
    raw = value(model.get_layer("logits").kernel)
    with trainer.averaged():
        np.testing.assert_allclose(value(model.get_layer("logits").kernel), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(value(model.get_layer("logits").kernel), raw)
    assert np.abs(raw - expected).max() > 1e-4


def validation_at(model, unfreeze):
    chain = Chain(model, ENDS, TASKS, BATCH)
    position = chain.position(unfreeze)
    return [
        (chain.run(batch["image"], 0, [position])[0] if position else batch["image"].astype("float32"), batch["labels"])
        for batch in make_batches(1)
    ]


def test_the_averaged_weights_are_validated():
    model = still_model()
    trainer, pairs = trainer_of(model, Craft(ema=0.9)), validation_at(model, 2)
    for step in range(6):
        trainer.train_step(batch_at(model, number=step % STEPS), step)
    averaged, average = trainer.evaluate(pairs).loss, trainer.average
    trainer.average = None
    raw = trainer.evaluate(pairs).loss
    assert abs(averaged - raw) > 1e-3
    with average.in_place():
        assert trainer.evaluate(pairs).loss == averaged


def test_the_averaged_weights_are_kept(tmp_path):
    stage = {"unfreeze": 2, "epochs": 1, "learning_rate": 3e-2}
    by_hand = still_model()
    trainer = trainer_of(by_hand, Craft(ema=0.9), **stage)
    for step in range(STEPS):
        trainer.train_step(batch_at(by_hand, number=step), step)
    trained = still_model()
    train(make_training(trained, [Stage(**PLAIN, **stage)], ema=0.9), tmp_path)
    with trainer.averaged():
        kept = kernels(by_hand)
    for name, kernel in kernels(trained).items():
        np.testing.assert_array_equal(kernel, kept[name])
    assert np.abs(kept["conv1"] - kernels(by_hand)["conv1"]).max() > 1e-4


def test_the_mean_of_the_best_epochs_is_kept_where_it_is_better(tmp_path):
    notes = []

    class Notes(Listener):
        def note(self, text):
            notes.append(text)

    stages = [Stage(unfreeze=0, epochs=12, learning_rate=3.0, schedule="constant")]  # jumps about the optimum
    state, _ = train(make_training(make_model(), stages, average_best=3), tmp_path, listener=Notes())
    best_epoch = min(row["val_loss"] for row in state.history)
    assert any("mean of its 3 best epochs is better" in note for note in notes)
    assert state.best["val_loss"] < best_epoch


def test_statistics_are_not_recalibrated_on_mixed_images(tmp_path):
    asked = []

    class Asked(Batches):
        def training(self, step, mixing=True):
            asked.append(mixing)
            return super().training(step)

    stages = [Stage(unfreeze=0, epochs=1, learning_rate=1e-3), Stage(unfreeze=1, epochs=1, learning_rate=1e-3)]
    training = Training(
        make_model(), stages, ends=ENDS, tasks=TASKS, features=Asked(), craft=Craft(batch_norm="recalibrate")
    )
    train(training, tmp_path)
    assert asked == [True, False, True]  # a stage of the head alone has no statistics to recalibrate


def test_gradients_are_clipped_to_the_norm():
    free, clipped = first_step(), first_step(clip_norm=1e-3)
    length = np.sqrt(sum(np.square(change).sum() for change in clipped.values()))
    assert np.sqrt(sum(np.square(change).sum() for change in free.values())) > 1e-2 * 1.9 * 1e-3
    assert length <= 1e-2 * 1.9 * 1e-3 * 1.0001
    assert length > 0.5e-2 * 1e-3


def test_accumulated_batches_make_one_step_of_their_mean_gradient():
    model = still_model()
    before = kernels(model)
    trainer = trainer_of(model, accumulate=2)
    trainer.train_step(batch_at(model, number=0), 0)
    unmoved = kernels(model)
    assert all((before[name] == unmoved[name]).all() for name in before)
    trainer.train_step(batch_at(model, number=1), 1)
    moved = kernels(model)
    singles = [first_step(batch=batch_at(still_model(), number=number)) for number in (0, 1)]
    for name in before:
        mean = (singles[0][name] + singles[1][name]) / 2
        np.testing.assert_allclose(moved[name] - before[name], mean, rtol=1e-3, atol=1e-7)


def test_bfloat16_is_where_the_step_computes_and_nowhere_else():
    model = still_model()
    trainer = trainer_of(model)
    features = batch_at(model).features
    with computing_in(trainer.suffix, "bfloat16"):
        assert keras.backend.standardize_dtype(trainer.suffix(features)["label"].dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(trainer.suffix(features)["label"].dtype) == "float32"
    assert {keras.backend.standardize_dtype(variable.dtype) for variable in trainer.suffix.trainable_variables} == {
        "float32"
    }
    exact, coarse = first_step(), first_step(Craft(precision="bfloat16"))
    assert (exact["conv1"] != coarse["conv1"]).any()
    np.testing.assert_allclose(coarse["logits"], exact["logits"], atol=0.1 * np.abs(exact["logits"]).max())


def test_a_frozen_block_is_the_same_to_the_bit_whatever_is_on(tmp_path):
    model = make_model()
    frozen = ("conv1", "bn1")
    before = [np.array(value) for name in frozen for value in model.get_layer(name).get_weights()]
    stages = [Stage(unfreeze=1, epochs=2, learning_rate=1e-2, block_factor=0.5, weight_decay=0.1)]
    train(make_training(model, stages, l2=0.1, l2_sp=0.1, ema=0.9, batch_norm="train", average_best=2), tmp_path)
    after = [np.array(value) for name in frozen for value in model.get_layer(name).get_weights()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_batch_norm_trains_where_that_is_asked_for(tmp_path):
    model = make_model()
    before = [value(model.get_layer(name).moving_mean) for name in ("bn1", "bn2")]
    train(make_training(model, [Stage(unfreeze=1, epochs=1, learning_rate=1e-3)], batch_norm="train"), tmp_path)
    after = [value(model.get_layer(name).moving_mean) for name in ("bn1", "bn2")]
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1] != after[1]).any()


def test_recalibrated_statistics_are_those_of_the_training_images():
    """Of the first BatchNorm they can be computed by hand; and it goes on in inference mode."""
    model = still_model()
    trainer = trainer_of(model, Craft(batch_norm="recalibrate"))
    trainer.recalibrate(batch_at(model, number=number) for number in range(STEPS))
    images = np.concatenate([batch["image"] for batch in make_batches()]).astype("float32")
    into = value(keras.Model(model.input, model.get_layer("conv1").output)(images)).astype(np.float64)
    norm = model.get_layer("bn1")
    np.testing.assert_allclose(value(norm.moving_mean), into.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value(norm.moving_variance), into.var((0, 1, 2)), rtol=1e-3)
    recalibrated = value(norm.moving_mean)
    trainer.train_step(batch_at(model), 0)
    np.testing.assert_array_equal(value(norm.moving_mean), recalibrated)


def test_class_weights_change_the_gradient_by_the_stated_factor():
    batch = batch_at(still_model())
    single = Batch(batch.features, {"label": np.full(BATCH, 2, np.int32)})
    weights = {"label": np.array([1.0, 1.0, 2.5], np.float32)}
    plain, weighted = first_step(batch=single), first_step(Craft(class_weights=weights), batch=single)
    for name in plain:
        np.testing.assert_allclose(weighted[name], 2.5 * plain[name], rtol=1e-3, atol=1e-7)


def test_class_weights_are_inverse_to_the_counts_and_of_mean_one_over_the_images():
    counts = np.array([30, 10, 60])
    weights = class_weights(counts)
    np.testing.assert_allclose(weights * counts, 100 / 3, rtol=1e-6)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert class_weights(np.array([5, 0]))[1] == 0


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warmup_rises_with_every_step(schedule):
    stage = Stage(epochs=10, learning_rate=0.5, warmup=0.2, schedule=schedule)
    trainer = trainer_of(still_model(), **stage.model_dump(exclude={"unfreeze", "optimizer"}), unfreeze=0)
    warm = 6  # of 10 epochs of 3 steps
    assert [trainer.learning_rate_at(step) for step in range(warm)] == pytest.approx([0.5 * n / 6 for n in range(1, 7)])
    assert trainer.learning_rate_at(warm) == pytest.approx(0.5)


def test_a_plateau_divides_the_rate(tmp_path):
    """A rate that makes things worse from the first epoch on falls by ten after every two epochs."""
    stage = Stage(unfreeze=0, epochs=9, learning_rate=8.0, optimizer="sgd", schedule="plateau", decay_epochs=2)
    state, _ = train(make_training(still_model(), [stage]), tmp_path)
    best, drops, stale, expected = np.inf, 0, 0, []
    for row in state.history:
        expected.append(8.0 * 0.1**drops)
        stale = 0 if row["val_loss"] < best else stale + 1
        best = min(best, row["val_loss"])
        if stale == 2:
            drops, stale = drops + 1, 0
    assert [row["learning_rate"] for row in state.history] == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_the_rate_is_what_the_optimizer_uses():
    slow, fast = first_step(learning_rate=1e-3), first_step(learning_rate=1e-2)
    np.testing.assert_allclose(10 * slow["conv1"], fast["conv1"], rtol=1e-3)


EVERYTHING = {
    "l2": 1e-4,
    "l2_sp": 1e-2,
    "ema": 0.9,
    "average_best": 2,
    "label_smoothing": 0.1,
    "batch_norm": "recalibrate",
}
BUSY = [
    Stage(unfreeze=0, epochs=3, learning_rate=0.5, schedule="plateau", decay_epochs=1, optimizer="sgd"),
    Stage(unfreeze=2, epochs=3, learning_rate=1e-2, block_factor=0.3, accumulate=2, warmup=0.2, weight_decay=1e-2),
]


class MixedBatches(Batches):
    """The few batches, with every image mixed with its neighbour."""

    def training(self, step, mixing=True):
        for number, batch in zip(itertools.count(step), super().training(step), strict=False):
            if not mixing:
                yield batch
                continue
            share = np.random.default_rng(number).random(BATCH).astype("float32")
            partners = np.roll(np.arange(BATCH), 1)
            yield Batch(batch.features, batch.labels, partners, share)


def busy_training(model):
    return Training(
        model, BUSY, ends=ENDS, tasks=TASKS, features=MixedBatches(), craft=Craft(**EVERYTHING), probe_views=(0,)
    )


@pytest.mark.parametrize("steps", [5, 10, 13, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, 8, 17))])
def test_everything_on_resumes_to_the_same_bits(steps, tmp_path):
    """Moving average, plateau, mixing, MultiOptimizer, accumulation, probe, recalibrated BatchNorm."""
    whole, fresh = make_model(), make_model()
    expected, _ = train(busy_training(whole), tmp_path / "whole")
    stop = StopRequest()
    with pytest.raises(Stopped):
        train(busy_training(make_model()), tmp_path, stop=stop, listener=StopAfter(steps, stop))
    saved = Checkpoint(tmp_path / "run" / "checkpoint", {"test": True}, 3600).load()
    state, _ = train(busy_training(fresh), tmp_path, state=saved)
    assert state.history == expected.history
    assert state.selection == expected.selection
    for mine, theirs in zip(values_of(fresh.variables), values_of(whole.variables), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_cut_of_a_trained_model_holds_the_variables_that_are_tracked():
    model = make_model()
    _, suffix = cut(model, ENDS, 1, TASKS)
    tracked = make_training(model, [Stage(unfreeze=1, epochs=1, learning_rate=1e-3)])._models.tracked(0, model)
    assert list(map(id, tracked)) == list(map(id, suffix.variables))
