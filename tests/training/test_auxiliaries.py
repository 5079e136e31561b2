"""Classifiers beside the trunk: their losses help to train, they are resumed, and they are not shipped."""

import keras
import numpy as np
import pytest
from two_blocks import ENDS, TASKS, Batches, StopAfter, make_batches, make_model, train

from tlkit.errors import Stopped
from tlkit.recipe_keys import Stage
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.stage import Craft, StageTrainer

ALL = Stage(unfreeze="all", epochs=2, learning_rate=1e-2, schedule="constant")


def beside_block1(model):
    x = keras.layers.GlobalAveragePooling2D()(model.get_layer("block1").output)
    return [{"label": keras.layers.Dense(3, name="auxiliary_logits")(x)}]


def make_training(stages, auxiliaries=beside_block1):
    keras.utils.set_random_seed(0)
    features = Batches()
    return Training(
        make_model(), stages, ends=ENDS, tasks=TASKS, features=features, craft=Craft(), auxiliaries=auxiliaries
    )


def loss_of(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def test_the_loss_is_the_trunks_and_three_tenths_of_each():
    """Szegedy et al. 2014, section 5: the losses of the auxiliary classifiers are weighted by 0.3."""
    model, auxiliaries = make_model(), []

    def two(model):
        auxiliaries.extend(beside_block1(model))
        x = keras.layers.Flatten()(model.get_layer("block2").output)
        auxiliaries.append({"label": keras.layers.Dense(3, name="another_logits")(x)})
        return auxiliaries

    trainer = StageTrainer(model, ALL, ends=ENDS, tasks=TASKS, steps_per_epoch=3, auxiliaries=two)
    batch = make_batches()[0]
    images, labels = batch["image"].astype("float32"), batch["labels"]["label"]
    trunk, *beside = trainer.suffix(images, training=False)
    losses = [loss_of(np.asarray(of["label"]), labels) for of in (trunk, *beside)]
    targets = trainer.targets.encode(batch["labels"], None, None)
    total = trainer.suffix.compute_loss(images, targets, trainer.suffix(images, training=False))
    assert float(total) == pytest.approx(losses[0] + 0.3 * (losses[1] + losses[2]), rel=1e-5)


def test_they_change_what_is_learned_and_learn_themselves(tmp_path):
    kept = []

    def keep(model):
        kept.append(beside_block1(model))
        kept.append(model.get_layer("block1"))
        return kept[0]

    with_them, without = make_training([ALL], keep), make_training([ALL], None)
    train(with_them, tmp_path / "with")
    train(without, tmp_path / "without")
    name = "conv1"
    assert not np.allclose(with_them.model.get_layer(name).kernel, without.model.get_layer(name).kernel)
    dense = kept[0][0]["label"]._keras_history.operation
    assert np.abs(np.asarray(dense.bias)).max() > 0


def test_they_are_no_part_of_the_model(tmp_path):
    training = make_training([ALL])
    train(training, tmp_path)
    assert "auxiliary_logits" not in {layer.name for layer in training.model.layers}
    assert training.model.output_shape == (None, 3)


def test_a_stage_that_does_not_train_all_blocks_does_without():
    for depth in (0, 1):
        stage = ALL.model_copy(update={"unfreeze": depth})
        trainer = StageTrainer(
            make_model(), stage, ends=ENDS, tasks=TASKS, steps_per_epoch=3, auxiliaries=beside_block1
        )
        assert not isinstance(trainer.suffix.output, list)


@pytest.mark.parametrize(("steps", "stages"), [(1, 1), (4, 1), (8, 3)])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, steps, stages):
    whole = make_training([ALL] * stages)
    train(whole, tmp_path / "whole")
    stop = StopRequest()
    with pytest.raises(Stopped):
        train(make_training([ALL] * stages), tmp_path / "cut", stop=stop, seconds=0, listener=StopAfter(steps, stop))
    resumed = make_training([ALL] * stages)
    from tlkit.training.checkpoint import Checkpoint

    state = Checkpoint(tmp_path / "cut" / "run" / "checkpoint", {"test": True}, 0).load()
    train(resumed, tmp_path / "cut", state=state)
    for one, two in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_later_stage_goes_on_with_what_they_have_learned(tmp_path):
    built = []

    def keep(model):
        built.append(beside_block1(model))
        return built[-1]

    train(make_training([ALL, ALL], keep), tmp_path)
    assert len(built) == 1
