import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest

from tlkit.data.augment import CROP, evaluation_view, training_view, view_seed
from tlkit.data.decode import decode
from tlkit.data.index import load
from tlkit.data.pipeline import (
    Views,
    balanced_order,
    evaluation_batches,
    side_needed,
    steps_per_epoch,
    training_batches,
)
from tlkit.errors import DataError


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 256, (50, 20, 24, 3), dtype=np.uint8)
    return load((images, np.arange(50) % 3))


SETTINGS = {"image_size": 16, "batch_size": 8, "augment": "heavy", "seed": 3, "epochs": 4}


def stream(data, **changes):
    return list(training_batches(data, data.indices("train"), **(SETTINGS | changes)))


def assert_same(received, expected):
    assert len(received) == len(expected)
    for one, other in zip(received, expected, strict=True):
        assert np.array_equal(one["image"], other["image"])
        assert np.array_equal(one["index"], other["index"])
        assert np.array_equal(one["labels"]["label"], other["labels"]["label"])


def test_batches_hold_what_they_say(data):
    train = data.indices("train")
    batches = stream(data)
    per_epoch = steps_per_epoch(len(train), 8)
    assert len(batches) == 4 * per_epoch
    assert [len(batch["index"]) for batch in batches[:per_epoch]] == [8] * (per_epoch - 1) + [len(train) % 8 or 8]
    for batch in batches:
        n = len(batch["index"])
        assert (batch["image"].shape, batch["image"].dtype) == ((n, 16, 16, 3), np.uint8)
        assert batch["index"].dtype == np.int64
        assert batch["labels"]["label"].dtype == np.int32
        assert np.array_equal(batch["labels"]["label"], data.labels["label"][batch["index"]])


def test_every_epoch_shows_every_image_once_in_another_order(data):
    train = data.indices("train")
    per_epoch = steps_per_epoch(len(train), 8)
    batches = stream(data)
    orders = [
        np.concatenate([batch["index"] for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch]])
        for epoch in range(4)
    ]
    assert all(np.array_equal(np.sort(order), train) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4


def test_an_image_in_a_batch_is_its_view(data):
    per_epoch = steps_per_epoch(len(data.indices("train")), 8)
    view = training_view("heavy", 16)
    for step, batch in enumerate(stream(data, views=2)):
        epoch = step // per_epoch
        for image, i in zip(batch["image"], batch["index"].tolist(), strict=True):
            assert np.array_equal(image, view(data.read(i), view_seed(3, epoch % 2, i)))


@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_the_number_of_threads_changes_nothing(data, threads):
    assert_same(stream(data, threads=threads), stream(data))


def test_the_seed_changes_order_and_views(data):
    one, other = stream(data), stream(data, seed=4)
    assert not np.array_equal(one[0]["index"], other[0]["index"])


def test_epochs_in_which_nothing_is_frozen_show_fresh_views(data):
    views = Views(data, image_size=16, augment="light", count=2, fresh=range(3, 5))
    assert [views.number(epoch) for epoch in range(7)] == [0, 1, 0, 3, 4, 1, 0]
    assert Views(data, image_size=16, augment="none").count == 1


def test_views_repeat_after_k_epochs(data):
    per_epoch = steps_per_epoch(len(data.indices("train")), 8)

    def seen(batches, epoch):
        chosen = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        return {int(i): image.tobytes() for b in chosen for i, image in zip(b["index"], b["image"], strict=True)}

    batches = stream(data, views=3)
    assert seen(batches, 0) == seen(batches, 3)
    assert seen(batches, 0) != seen(batches, 1)
    fresh = stream(data)
    assert seen(fresh, 0) == seen(batches, 0)
    assert seen(fresh, 0) != seen(fresh, 3)


@pytest.mark.parametrize("step", [0, 1, 4, 5, 13, 19, 20, 99])
def test_a_stream_resumes_at_any_step(data, step):
    assert_same(stream(data, start_step=step), stream(data)[step:])


def test_a_restarted_process_sees_the_same_batches():
    code = (
        "import numpy as np, zlib; from tlkit.data.index import load; from tlkit.data.pipeline import training_batches;"
        "images = np.random.default_rng(0).integers(0, 256, (50, 20, 24, 3), dtype=np.uint8);"
        "data = load((images, np.arange(50) % 3));"
        f"batches = training_batches(data, data.indices('train'), start_step=7, **{SETTINGS});"
        "print(zlib.crc32(b''.join(b['image'].tobytes() + b['index'].tobytes() for b in batches)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    images = np.random.default_rng(0).integers(0, 256, (50, 20, 24, 3), dtype=np.uint8)
    batches = stream(load((images, np.arange(50) % 3)))[7:]
    expected = zlib.crc32(b"".join(b["image"].tobytes() + b["index"].tobytes() for b in batches))
    assert int(done.stdout) == expected
    assert done.stderr == ""


def test_evaluation_keeps_the_order_given(data):
    chosen = np.array([40, 3, 3, 17, 8])
    batches = list(evaluation_batches(data, chosen, image_size=16, batch_size=2, fit="squash"))
    assert [batch["index"].tolist() for batch in batches] == [[40, 3], [3, 17], [8]]
    assert np.array_equal(batches[2]["image"][0], evaluation_view(data.read(8), 16, "squash"))
    assert list(evaluation_batches(data, chosen[:0], image_size=16, batch_size=2)) == []


def test_only_a_few_batches_are_ahead_of_the_reader(data):
    made = []

    class Watched:
        labels = data.labels

        def read(self, i, at_least=None):
            made.append(i)
            return data.read(i, at_least)

    batches = training_batches(Watched(), np.arange(50), image_size=8, batch_size=1, epochs=100, threads=2)
    next(batches)
    time.sleep(0.3)
    assert len(made) <= 10


def test_a_reader_may_leave_early(data):
    before = threading.active_count()
    batches = training_batches(data, data.indices("train"), **SETTINGS)
    next(batches)
    del batches
    for _ in range(50):
        if threading.active_count() <= before:
            break
        time.sleep(0.1)
    assert threading.active_count() <= before


def test_a_file_that_vanished_is_named(photos):
    data = load(photos)
    (photos / data.paths[5]).unlink()
    with pytest.raises(DataError, match=r"has gone"):
        list(evaluation_batches(data, np.arange(len(data)), image_size=16, batch_size=4))


def test_files_and_arrays_give_the_same_batches(photos):
    from_files = load(photos)
    arrays = [from_files.read(i) for i in range(len(from_files))]
    from_arrays = load((arrays, from_files.labels["label"]))
    indices = np.arange(len(arrays))
    one, other = (
        list(training_batches(data, indices, image_size=16, batch_size=5)) for data in (from_files, from_arrays)
    )
    assert_same(one, other)


@pytest.mark.parametrize("image_size", [1, 32, 33, 224, 299])
def test_reduced_photos_still_shrink_by_averaging(image_size):
    side = side_needed(image_size)
    assert round(CROP * side) >= 2 * image_size > round(CROP * (side - 2))


def test_large_photos_are_read_reduced(photo_folder, tmp_path):
    data = load(photo_folder(tmp_path / "photos", per_class=10, size=300))
    indices, read = np.arange(len(data)), {}

    class Watched:
        labels = data.labels

        def read(self, i, at_least=None):
            read[i] = data.read(i, at_least)
            return read[i]

    view = training_view("light", 32)
    for batch in evaluation_batches(Watched(), indices, image_size=32, batch_size=4):
        for image, i in zip(batch["image"], batch["index"].tolist(), strict=True):
            assert len(read[i]) == (75 if data.paths[i].endswith("jpg") else 300)
            assert np.array_equal(image, evaluation_view(data.read(i, side_needed(32)), 32))
    for batch in training_batches(Watched(), indices, image_size=32, batch_size=4):
        for image, i in zip(batch["image"], batch["index"].tolist(), strict=True):
            assert len(read[i]) == (75 if data.paths[i].endswith("jpg") else 300)
            assert np.array_equal(image, view(data.read(i, side_needed(32)), view_seed(0, 0, i)))


@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_views_of_reduced_photos_are_those_of_whole_ones(shared_data, fit):
    """A crop's edges are rounded to the pixels it is taken from, so it may be a fraction of a pixel elsewhere."""
    differences = []
    for photo in sorted((shared_data / "imagenet100").glob("*.JPEG")):
        data = photo.read_bytes()
        whole, reduced = decode(data), decode(data, side_needed(96))
        if whole.shape != reduced.shape:
            one, other = (evaluation_view(image, 96, fit).astype(int) for image in (whole, reduced))
            differences.append(np.abs(one - other).mean())
    assert len(differences) >= 5
    assert np.mean(differences) <= (3 if fit == "crop" else 1.5)
    assert max(differences) <= (6 if fit == "crop" else 3)


def test_grain_is_imported_in_silence():
    code = "import tlkit.data.pipeline, sys; print('tensorflow' in sys.modules, 'albumentations' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False False", "")


CLASSES = np.array([0] * 50 + [1] * 7 + [3] * 2 + [-1] * 5)  # nobody has class 2


def test_balanced_epochs_draw_every_class_and_its_images_equally_often():
    total = np.zeros(len(CLASSES), int)
    for epoch in range(30):
        order = balanced_order(CLASSES, 5, epoch)
        assert (order.shape, order.dtype) == ((64,), np.int64)
        drawn = np.bincount(order, minlength=64)
        total += drawn
        by_class = [drawn[number == CLASSES].sum() for number in (0, 1, 3)]
        assert sorted(by_class) == [21, 21, 22]  # 64 draws, three classes
        for number in (0, 1, 3):
            assert np.ptp(drawn[number == CLASSES]) <= 1
            assert np.ptp(total[number == CLASSES]) <= 1  # over all epochs, too
        assert (drawn[CLASSES == -1] == 0).all()
    assert [total[number == CLASSES].sum() for number in (0, 1, 3)] == [640, 640, 640]


def test_balanced_epochs_are_a_function_of_seed_and_epoch():
    orders = {(seed, epoch): balanced_order(CLASSES, seed, epoch) for seed in (0, 1) for epoch in range(3)}
    assert len({order.tobytes() for order in orders.values()}) == 6
    for (seed, epoch), order in reversed(orders.items()):
        assert np.array_equal(balanced_order(CLASSES, seed, epoch), order)
    positions = np.flatnonzero(CLASSES[orders[0, 0]] == 3)  # well mixed: not one class after the other
    assert np.ptp(positions) > 40


def test_balanced_data_are_drawn_once_each():
    classes = np.arange(60) % 4
    assert np.array_equal(np.sort(balanced_order(classes, 0, 2)), np.arange(60))


def test_balancing_without_labels_is_refused():
    with pytest.raises(DataError, match="all are missing"):
        balanced_order(np.full(4, -1), 0, 0)


def test_streams_that_are_over_leave_nothing_in_grains_register(data):
    """In a training there are one or two an epoch."""
    from grain._src.python.dataset import stats

    sizes = []
    for _ in range(40):
        stream(data, epochs=1)
        sizes.append(len(stats._iter_weakref_registry))
    assert max(sizes[5:]) <= min(sizes[5:]) + 2
