"""The loop: what trains, what stays, which epoch is kept, and the traps that would spoil it silently."""

import keras
import numpy as np
import pytest
from two_blocks import BATCH, ENDS, STEPS, TASKS, StopAfter, make_batches, make_model, make_training, train

from tlkit.errors import Stopped
from tlkit.models.assemble import cut
from tlkit.models.chain import Chain
from tlkit.recipe_keys import Stage
from tlkit.training.checkpoint import Checkpoint
from tlkit.training.contest import Contest
from tlkit.training.features import Batch
from tlkit.training.interrupt import StopRequest
from tlkit.training.stage import StageTrainer


def values(model, *names):
    return {name: [np.array(value) for value in model.get_layer(name).get_weights()] for name in names}


def same(one, other):
    return all((a == b).all() for name in one for a, b in zip(one[name], other[name], strict=True))


@pytest.mark.parametrize(("unfreeze", "still"), [(0, ("conv1", "conv2")), (1, ("conv1",)), (2, ())])
def test_only_what_is_unfrozen_trains(unfreeze, still, tmp_path):
    model = make_model()
    moving = [name for name in ("conv1", "conv2", "logits") if name not in still]
    before = values(model, "conv1", "conv2", "logits")
    train(make_training(model, [Stage(unfreeze=unfreeze, epochs=3, learning_rate=1e-2)]), tmp_path)
    after = values(model, "conv1", "conv2", "logits")
    assert all(same({name: before[name]}, {name: after[name]}) for name in still)
    assert not any(same({name: before[name]}, {name: after[name]}) for name in moving)


def test_trap_1_the_backbones_batch_norm_keeps_its_statistics_and_the_heads_does_not(tmp_path):
    model = make_model()
    before = values(model, "bn1", "bn2", "head_bn")
    train(make_training(model, [Stage(unfreeze="all", epochs=3, learning_rate=1e-2)]), tmp_path)
    after = values(model, "bn1", "bn2", "head_bn")
    assert same({"bn1": before["bn1"], "bn2": before["bn2"]}, {"bn1": after["bn1"], "bn2": after["bn2"]})
    assert not same({"head_bn": before["head_bn"]}, {"head_bn": after["head_bn"]})


def test_trap_2_dropout_rests_in_the_prefix_and_works_in_the_suffix():
    images = make_batches()[0]["image"]
    model = make_model()
    stage = Stage(unfreeze=1, epochs=1, learning_rate=1e-3)
    frozen = StageTrainer(model, stage, ends=ENDS, tasks=TASKS, steps_per_epoch=STEPS)
    prefix, _ = cut(model, ENDS, 1, TASKS)
    prefix_calls = [np.asarray(prefix(images.astype("float32"), training=True)) for _ in range(2)]
    np.testing.assert_allclose(prefix_calls[0], Chain(model, ENDS, TASKS, BATCH).run(images, 0, [1])[0], atol=1e-6)
    np.testing.assert_array_equal(*prefix_calls)
    suffix_calls = [np.asarray(frozen.suffix(prefix_calls[0], training=True)["label"]) for _ in range(2)]
    assert (suffix_calls[0] != suffix_calls[1]).any()


def test_training_is_what_keras_would_do():
    """One step of ours moves the head like a step written out with the loss of the whole model."""
    import tensorflow as tf

    batch = make_batches()[0]
    ours, plain = make_model(), make_model()
    for model in (ours, plain):
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    stage = Stage(unfreeze=0, epochs=1, learning_rate=0.1, optimizer="sgd", schedule="constant")
    trainer = StageTrainer(ours, stage, ends=ENDS, tasks=TASKS, steps_per_epoch=STEPS)
    prefix, _ = cut(ours, ENDS, 0, TASKS)
    trainer.train_step(Batch(np.asarray(prefix(batch["image"].astype("float32"))), batch["labels"]), step=0)
    dense, norm = plain.get_layer("logits"), plain.get_layer("head_bn")
    features = keras.Model(plain.input, plain.get_layer("block2").output)(batch["image"].astype("float32"))
    with tf.GradientTape() as tape:
        pooled = tf.reduce_mean(features, axis=(1, 2))
        logits = dense(norm(pooled, training=True))
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"]["label"], logits))
    gradient = tape.gradient(loss, dense.kernel)
    # Nesterov's first step: velocity = -rate * gradient, update = momentum * velocity - rate * gradient.
    expected = keras.ops.convert_to_numpy(dense.kernel) - 0.1 * (1 + 0.9) * np.array(gradient)
    np.testing.assert_allclose(ours.get_layer("logits").get_weights()[0], expected, rtol=1e-5, atol=1e-7)


def test_the_model_is_left_at_its_best_epoch(tmp_path):
    model = make_model()
    stages = [
        Stage(unfreeze=0, epochs=6, learning_rate=3e-2),
        Stage(unfreeze="all", epochs=2, learning_rate=5.0, optimizer="sgd", schedule="constant"),
    ]
    training = make_training(model, stages)
    state, _ = train(training, tmp_path)
    assert state.best["stage"] == 0  # a learning rate of 5 helps nobody
    assert state.best["val_loss"] == min(row["val_loss"] for row in state.history)
    probe = StageTrainer(model, stages[0], ends=ENDS, tasks=TASKS, steps_per_epoch=STEPS)
    prefix, _ = cut(model, ENDS, 0, TASKS)
    pairs = [(np.asarray(prefix(batch["image"].astype("float32"))), batch["labels"]) for batch in make_batches(1)]
    assert probe.evaluate(pairs).loss == pytest.approx(state.best["val_loss"], rel=1e-5)


def test_patience_ends_a_stage_and_the_next_one_begins(tmp_path):
    stages = [
        Stage(unfreeze=0, epochs=50, learning_rate=2.0, optimizer="sgd", schedule="constant"),
        Stage(unfreeze=0, epochs=1, learning_rate=1e-3),
    ]
    state, _ = train(make_training(make_model(), stages, patience=2), tmp_path)
    epochs = [row["epoch"] for row in state.history if row["stage"] == 0]
    assert len(epochs) < 50
    assert state.history[-1]["stage"] == 1
    best = min(range(len(epochs)), key=lambda number: state.history[number]["val_loss"])
    assert len(epochs) - 1 - best == 2
    assert len(state.history._figures) == 51  # the memory of all epochs that may come is taken at the start


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_the_monitored_figure_chooses(monitor):
    contest = Contest(monitor, patience=0)
    surer = {"val_loss": 0.3, "val_accuracy": 0.8}
    righter = {"val_loss": 0.4, "val_accuracy": 0.9}
    assert (contest.score(surer) > contest.score(righter)) == (monitor == "loss")


def test_cosine_falls_from_the_rate_to_nearly_nothing(tmp_path):
    stage = Stage(unfreeze=0, epochs=10, learning_rate=1e-2)
    state, _ = train(make_training(make_model(), [stage]), tmp_path)
    for row in state.history:
        expected = 1e-2 * (1 + np.cos(np.pi * (row["step"] - 1) / (10 * STEPS))) / 2
        assert row["learning_rate"] == pytest.approx(expected, rel=1e-5)


UP_THEN_DOWN = [  # a stage may freeze again what an earlier one had trained
    Stage(unfreeze="all", epochs=2, learning_rate=1e-2),
    Stage(unfreeze=0, epochs=2, learning_rate=1e-3, optimizer="sgd"),
    Stage(unfreeze=1, epochs=3, learning_rate=1e-3, optimizer="rmsprop"),
]
DOWN = [Stage(unfreeze=0, epochs=2, learning_rate=1e-2), Stage(unfreeze=2, epochs=2, learning_rate=1e-3)]


@pytest.mark.parametrize(
    "steps", [1, 5, 6, 9, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (3, 7, 11, 12))]
)
@pytest.mark.parametrize("stages", [DOWN, UP_THEN_DOWN], ids=["down", "up then down"])
def test_a_stopped_training_resumes_to_the_same_bits(steps, stages, tmp_path):
    whole, halves = make_model(), make_model()
    expected, _ = train(make_training(whole, stages, patience=1), tmp_path / "whole")
    stop = StopRequest()
    with pytest.raises(Stopped) as stopped:
        train(make_training(halves, stages, patience=1), tmp_path, stop=stop, listener=StopAfter(steps, stop))
    assert stopped.value.status == 128 + 15
    fresh = make_model()
    saved = Checkpoint(tmp_path / "run" / "checkpoint", {"test": True}, 3600).load()
    state, _ = train(make_training(fresh, stages, patience=1), tmp_path, state=saved)
    assert state.history == expected.history
    for mine, theirs in zip(fresh.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [layer.trainable for layer in fresh.layers] == [layer.trainable for layer in whole.layers]
