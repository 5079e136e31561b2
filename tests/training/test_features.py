"""The one feature pass: the same numbers as without it, wherever they are kept, and whatever goes wrong with them."""

import errno
import os

import keras
import numpy as np
import pytest

from tlkit.data.index import load
from tlkit.data.pipeline import Views
from tlkit.models.assemble import assemble, cut, freeze, logits_of
from tlkit.models.backbones import block_ends, build_backbone
from tlkit.models.chain import Chain
from tlkit.models.heads import make_head
from tlkit.progress import Listener
from tlkit.recipe_keys import Stage
from tlkit.tasks import Task
from tlkit.training.cache import CachePlan
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.features import Batch, Features, KeptFeatures, _runs
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.stage import StageTrainer
from tlkit.training.store import DiskStore, MemoryStore, StoreError

TASKS = {"label": Task("single_label", ("a", "b", "c"))}
SIZE, BATCH = 75, 4  # the smallest image that InceptionV3 takes
GAIN = {0: 1.0}  # what the code of some layers reads
KINDS = [  # residual, depthwise, Inception, dense
    "resnet50", "mobilenet_v2", "inception_v3", pytest.param("densenet121", marks=pytest.mark.slow)
]  # fmt: skip


class Notes(Listener):
    def __init__(self):
        self.lines, self.passes = [], []

    def note(self, text):
        self.lines.append(text)

    def features_computed(self, done, total, what):
        if done == total:
            self.passes.append((what, total))


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    labels = np.arange(30) % 3
    images = np.clip(labels[:, None, None, None] * 80 + random.integers(0, 90, (30, 40, 40, 3)), 0, 255)
    images = images.astype(np.uint8)
    return load(((images[:21], labels[:21]), (images[21:], labels[21:])), seed=0)


@pytest.fixture(scope="module", params=KINDS)
def net(request):
    keras.utils.set_random_seed(0)
    model = assemble(build_backbone(request.param, image_size=SIZE), make_head(TASKS, dropout=0.0), TASKS)
    return model, block_ends(model)


def views_of(data, count=2):
    return Views(data, image_size=SIZE, fit="squash", augment="light", count=count, seed=0)


def kept_of(data, model, ends, store, view=None):
    chain = Chain(model, ends, TASKS, BATCH)
    view = view or views_of(data).training(0)
    return KeptFeatures(store, chain, view, data, data.indices("train"), {}), chain


def fill(kept, positions, listener=None):
    for _ in kept.ensure(positions, positions[-1], listener or Listener(), threads=0):
        pass


def images_of(data, view):
    return np.stack([view.render(int(i)) for i in data.indices("train")])


def test_features_are_the_full_models_activations(net, data, tmp_path):
    """At every cut, to 1e-5 of the largest."""
    model, ends = net
    kept, chain = kept_of(data, model, ends, DiskStore(tmp_path))
    positions = list(range(1, chain.end))
    fill(kept, positions)
    images = images_of(data, views_of(data).training(0)).astype("float32")
    for position in positions:
        unfreeze = next(n for n in range(len(ends)) if chain.position(n) == position) if position < len(ends) else 0
        end = model.get_layer(ends[position - 1]).output if position <= len(ends) else cut_output(model, ends, unfreeze)
        expected = np.asarray(keras.Model(model.inputs[0], end)(images, training=False))
        received = kept.rows(position, data.indices("train"))
        assert np.abs(received - expected).max() <= 1e-5 * np.abs(expected).max()


def cut_output(model, ends, unfreeze):
    prefix, _ = cut(model, ends, unfreeze, TASKS)
    return prefix.output


def test_a_sample_is_some_of_the_images_with_their_labels(net, data):
    model, ends = net
    chain = Chain(model, ends, TASKS, BATCH)
    cut_at = chain.position(0)
    features = Features(
        data,
        views_of(data),
        batch_size=BATCH,
        seed=0,
        epochs=1,
        plan=CachePlan("ram", frozenset({cut_at}), frozenset({cut_at})),
        store=MemoryStore(2**30),
        engine={},
    )
    features.start_stage(chain, cut_at)
    some = features.sample(12)
    sizes = [len(data.indices(split)) for split in ("train", "val")]
    counts = [12 * size // sum(sizes) for size in sizes]
    sampled = [[(b.features, b.labels) for b in some.in_order([0], 10**6)], list(some.validation())]
    every = [[(b.features, b.labels) for b in features.in_order([0], 10**6)], list(features.validation())]
    for mine, all_of_them, count in zip(map(joined, sampled), map(joined, every), counts, strict=True):
        rows, labels = mine
        places = [int(np.flatnonzero((all_of_them[0] == row).reshape(-1, row.size).all(axis=1))[0]) for row in rows]
        assert len(set(places)) == count
        assert places == sorted(places)
        np.testing.assert_array_equal(labels, all_of_them[1][places])


def joined(batches):
    rows, labels = zip(*((rows, labels["label"]) for rows, labels in batches), strict=True)
    return np.concatenate(rows), np.concatenate(labels)


def test_a_deeper_cut_computed_from_a_kept_one_has_the_same_bits(net, data, tmp_path):
    model, ends = net
    at_once, chain = kept_of(data, model, ends, MemoryStore(2**30))
    last = chain.end - 1
    fill(at_once, [last])
    in_steps, _ = kept_of(data, model, ends, DiskStore(tmp_path))
    fill(in_steps, [last - 2])
    notes = Notes()
    fill(in_steps, [last], notes)
    assert notes.passes
    train = data.indices("train")
    np.testing.assert_array_equal(at_once.rows(last, train), in_steps.rows(last, train))
    assert in_steps.deepest(before=last) == last - 2


def test_a_view_has_the_same_features_in_any_batch_and_place(net, data):
    model, ends = net
    chain = Chain(model, ends, TASKS, BATCH)
    images = images_of(data, views_of(data).training(1))[:BATCH]
    last = chain.end - 1
    whole = chain.run(images, 0, [last])[0]
    turned = chain.run(images[::-1], 0, [last])[0][::-1]
    alone = np.concatenate([chain.run(images[n : n + 1], 0, [last])[0] for n in range(BATCH)])
    np.testing.assert_array_equal(whole, turned)
    np.testing.assert_array_equal(whole, alone)


def test_the_first_steps_gradients_are_those_of_the_whole_model(net, data):
    """A cached suffix and the whole model, whose frozen layers stream: to 1e-4 of the largest."""
    import tensorflow as tf

    model, ends = net
    freeze(model, ends, 1)
    chain = Chain(model, ends, TASKS, BATCH)
    train = data.indices("train")[:BATCH]
    images = images_of(data, views_of(data).training(0))[:BATCH].astype("float32")
    labels = data.labels["label"][train]
    _, suffix = cut(model, ends, 1, TASKS)
    whole = keras.Model(model.inputs[0], logits_of(model, TASKS)["label"])

    def gradients(call):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, call()))
        return tape.gradient(loss, [variable.value for variable in suffix.trainable_variables])

    features = chain.run(images, 0, [chain.position(1)])[0]
    cached = gradients(lambda: suffix(features, training=False)["label"])
    streamed = gradients(lambda: whole(images, training=False))
    assert cached
    for one, other in zip(cached, streamed, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(np.abs(other).max(), 1e-6)


def test_twenty_steps_on_kept_features_are_those_of_the_whole_model(net, data, tmp_path):
    """Logits of the images that it trained on, beside those of the whole model, trained by Keras: to 1e-3."""
    model, ends = net
    start = [np.array(value) for value in model.get_weights()]
    train, view = data.indices("train"), views_of(data).training(0)
    images, labels = images_of(data, view).astype("float32"), data.labels["label"][train]
    batches = [np.arange(step, step + BATCH) % len(train) for step in range(0, 20 * BATCH, BATCH)]
    stage = Stage(unfreeze=1, epochs=20, learning_rate=5e-4, optimizer="sgd", schedule="constant")

    trainer = StageTrainer(model, stage, ends=ends, tasks=TASKS, steps_per_epoch=1)
    kept, chain = kept_of(data, model, ends, DiskStore(tmp_path))
    position = chain.position(1)
    fill(kept, [position])
    for step, batch in enumerate(batches):
        trainer.train_step(Batch(kept.rows(position, train[batch]), {"label": labels[batch]}), step)
    cached = trainer.suffix.predict_on_batch(kept.rows(position, train))["label"]

    model.set_weights(start)
    whole = keras.Model(model.inputs[0], logits_of(model, TASKS)["label"])
    before = whole.predict_on_batch(images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole.compile(keras.optimizers.SGD(5e-4, momentum=0.9, nesterov=True), loss, jit_compile=False)
    for batch in batches:
        whole.train_on_batch(images[batch], labels[batch])
    streamed = whole.predict_on_batch(images)
    model.set_weights(start)
    assert np.abs(cached - streamed).max() <= 1e-3 * np.abs(streamed).max()
    assert np.abs(streamed - before).max() > 0.01 * np.abs(streamed).max()  # it did train


def train_with(data, ends, model, *, plan=None, store=None, views=2, listener=None, epochs=(2, 2)):
    """Train a head, then a block on top; return the history and the logits of all images."""
    stages = [Stage(unfreeze=0, epochs=epochs[0], learning_rate=1e-2)]
    stages += [Stage(unfreeze=1, epochs=n, learning_rate=1e-4) for n in epochs[1:]]
    features = Features(
        data,
        views_of(data, views),
        batch_size=BATCH,
        seed=0,
        epochs=sum(epochs),
        plan=plan,
        store=store,
        engine={},
        listener=listener,
    )
    training = Training(model, stages, ends=ends, tasks=TASKS, features=features)
    state = TrainingState()
    training.run(
        state,
        checkpoint=Checkpoint("/nowhere", {}, 1e9),
        listener=listener or Listener(),
        stop=StopRequest(),
        on_epoch=lambda state: None,
    )
    return state.history


@pytest.fixture
def no_checkpoint(monkeypatch):
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: None)


def small_net():
    keras.utils.set_random_seed(0)
    model = assemble(build_backbone("mobilenet_v2", image_size=SIZE), make_head(TASKS), TASKS)
    return model, block_ends(model)


def everything(model, ends, mode="disk"):
    chain = Chain(model, ends, TASKS, BATCH)
    cuts = frozenset({chain.position(0), chain.position(1)})
    return CachePlan(mode, cuts, cuts)


@pytest.fixture(scope="module")
def streamed(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", lambda self, state: None)
        model, ends = small_net()
        history = train_with(data, ends, model)
    return history, [np.array(value) for value in model.get_weights()]


def assert_same(model, history, streamed):
    assert history == streamed[0]
    for one, other in zip(model.get_weights(), streamed[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", ["disk", "ram"])
def test_a_training_has_the_same_bits_wherever_its_features_are_kept(mode, data, streamed, tmp_path, no_checkpoint):
    """24 steps of a head, then of a block: history and every weight."""
    model, ends = small_net()
    store = DiskStore(tmp_path) if mode == "disk" else MemoryStore(2**30)
    notes = Notes()
    history = train_with(data, ends, model, plan=everything(model, ends, mode), store=store, listener=notes)
    assert_same(model, history, streamed)
    whats = [what for what, _ in notes.passes]
    assert sorted(whats) == ["evaluation view", "training view 0", "training view 1"]  # both stages share each pass


def test_a_second_training_computes_nothing(data, tmp_path, no_checkpoint):
    first, second = Notes(), Notes()
    for notes in (first, second):
        model, ends = small_net()
        train_with(data, ends, model, plan=everything(model, ends), store=DiskStore(tmp_path), listener=notes)
    assert first.passes
    assert not second.passes


def shard_files(folder):
    return sorted(folder.rglob("*.npy"))


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut_short(path):
    os.truncate(path, path.stat().st_size - 7)


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short])
def test_a_damaged_entry_is_computed_anew_with_a_notice(damage, data, streamed, tmp_path, no_checkpoint):
    model, ends = small_net()
    train_with(data, ends, model, plan=everything(model, ends), store=DiskStore(tmp_path))
    files = shard_files(tmp_path)
    for path in files:
        damage(path)
    model, ends = small_net()
    notes = Notes()
    store = DiskStore(tmp_path, note=notes.note)
    history = train_with(data, ends, model, plan=everything(model, ends), store=store, listener=notes)
    assert_same(model, history, streamed)
    assert sum("damaged" in line for line in notes.lines) == len(files)
    assert shard_files(tmp_path) == files


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_a_full_disk_costs_the_features_not_the_run(writes, data, streamed, tmp_path, no_checkpoint, monkeypatch):
    model, ends = small_net()
    reserve, done = os.posix_fallocate, []

    def full(*arguments):
        done.append(arguments)
        if len(done) > writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        return reserve(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", full)
    notes = Notes()
    store = DiskStore(tmp_path, note=notes.note)
    history = train_with(data, ends, model, plan=everything(model, ends), store=store, listener=notes)
    assert_same(model, history, streamed)
    assert len([line for line in notes.lines if "not kept yet" in line and "No space left" in line]) == 1


def test_what_can_never_be_read_back_is_a_store_error(data, tmp_path, monkeypatch):
    model, ends = small_net()
    kept, chain = kept_of(data, model, ends, DiskStore(tmp_path))
    monkeypatch.setattr("tlkit.training.store.DiskEntry.open", lambda self: None)
    with pytest.raises(StoreError, match="can't be read back"):
        fill(kept, [chain.end - 1])


def tiny_net(activation="relu", custom=None, name=None):
    """A model of one convolution and what it is given, then pooling and a head."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, name="conv")(image)
    x = (custom or keras.layers.Activation(activation, name=name or activation))(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3)(x)
    return keras.Model(image, keras.layers.Activation("softmax", name="label")(x))


def digest_of(model):
    chain = Chain(model, [model.layers[2].name], TASKS, BATCH)
    return chain.digest(1)


def test_the_key_tells_apart_what_differs_in_a_name_that_is_also_a_setting():
    assert digest_of(tiny_net("relu")) != digest_of(tiny_net("tanh"))
    assert digest_of(tiny_net("relu")) == digest_of(tiny_net("relu", name="other")) == digest_of(tiny_net("relu"))


def test_the_key_tells_apart_what_only_a_layers_code_decides(monkeypatch):
    class Scale(keras.layers.Layer):
        def call(self, x):
            return GAIN[0] * x

    digests = set()
    for gain in (1.0, 2.0):
        monkeypatch.setitem(GAIN, 0, gain)  # no config and no weight shows it
        digests.add(digest_of(tiny_net(custom=Scale(name="scale"))))
        digests.add(digest_of(tiny_net(custom=keras.layers.Lambda(lambda x: GAIN[0] * x + 1, name="scale"))))
    assert len(digests) == 4


def test_the_key_tells_apart_what_the_noise_does_not_reach():
    """No value comes above 10^6, so that both compute the same of the probe."""
    clipped = tiny_net(custom=keras.layers.ReLU(max_value=1e6, name="relu"))
    assert digest_of(clipped) != digest_of(tiny_net(custom=keras.layers.ReLU(max_value=1e7, name="relu")))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_kept_as_it_is_computed(policy, data, tmp_path, no_checkpoint):
    histories = []
    for store in (None, DiskStore(tmp_path)):
        keras.config.set_dtype_policy(policy)
        try:
            model, ends = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        histories.append(train_with(data, ends, model, plan=everything(model, ends), store=store))
    assert histories[0] == histories[1]


def test_only_what_a_later_stage_shows_is_filled_for_it(data, tmp_path, no_checkpoint):
    """A head for three epochs sees views 0 and 1, a block for one epoch after it view 1."""
    model, ends = small_net()
    chain = Chain(model, ends, TASKS, BATCH)
    store = DiskStore(tmp_path)
    train_with(data, ends, model, plan=everything(model, ends), store=store, epochs=(3, 1))
    kept = sorted(
        (info.key["what"].split(",")[-1].split(" of ")[0].strip(), info.row_shape) for info in store.entries()
    )
    pooled, block = chain.row_shape(chain.position(0)), chain.row_shape(chain.position(1))
    views = ["evaluation view", "training view 0", "training view 1"]
    assert kept == sorted([(view, pooled) for view in views] + [(view, block) for view in (views[0], views[2])])


def test_a_shard_is_bounded_in_images_and_in_bytes(data, monkeypatch):
    model, ends = small_net()
    kept, chain = kept_of(data, model, ends, MemoryStore(2**30))
    assert kept.entry(chain.position(0)).shard_rows == 256
    monkeypatch.setattr("tlkit.training.features.SHARD_BYTES", 9 * chain.row_bytes(1))
    assert kept.entry(1).shard_rows == 8


def test_an_entry_that_cannot_be_mapped_costs_the_features_not_the_run(
    data, streamed, tmp_path, no_checkpoint, monkeypatch
):
    model, ends = small_net()
    train_with(data, ends, model, plan=everything(model, ends), store=DiskStore(tmp_path))

    def refuse(*_args, **_kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "memmap", refuse)
    model, ends = small_net()
    notes = Notes()
    history = train_with(data, ends, model, plan=everything(model, ends), store=DiskStore(tmp_path), listener=notes)
    assert_same(model, history, streamed)
    assert len([line for line in notes.lines if "Too many open files" in line]) == 1


def test_runs_of_numbers():
    assert list(_runs([])) == []
    assert list(_runs([3])) == [(3, 3)]
    assert list(_runs([0, 1, 2, 5, 7, 8])) == [(0, 2), (5, 5), (7, 8)]


def test_one_step_on_features_moves_what_the_stage_unfreezes(data):
    model, ends = small_net()
    trainer = StageTrainer(
        model, Stage(unfreeze=0, epochs=1, learning_rate=0.1), ends=ends, tasks=TASKS, steps_per_epoch=1
    )
    chain = Chain(model, ends, TASKS, BATCH)
    assert trainer.suffix.input_shape[1:] == chain.row_shape(chain.position(0)) == (1280,)
    assert {variable.path for variable in trainer.suffix.trainable_variables} == {
        "label_logits/kernel",
        "label_logits/bias",
    }
