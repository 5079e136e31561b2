"""The experiments that train, with tiny settings: what they write, and that they go on where they were."""

import io
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tlkit import run as run_folder
from tlkit.api import load_data
from tlkit.errors import TlkitError
from tlkit.experiments import depth, permuted_pixels, transfer_vs_scratch, translation
from tlkit.experiments.digits import SIDE, balanced, read_digits, recipe
from tlkit.experiments.history import error_by_epoch
from tlkit.experiments.pictures import Pool, scratch_recipe
from tlkit.experiments.study import Study, open_study, run_experiment
from tlkit.progress import Listener
from tlkit.recipe import check_recipe


class Heard(Listener):
    """Keeps the notes that it hears; a worker has a copy of its own."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Check what would be trained instead of training it; list variants, seeds and counts of images."""
    trained = []

    def train(self, variant, seed, values, source):
        recipe = check_recipe(values | {"seed": seed})
        trained.append((variant, seed, load_data(source).counts()))
        folder = tmp_path / "pretended" / f"{variant}-{seed}"
        folder.mkdir(parents=True)
        epochs = sum(stage.epochs for stage in recipe.stages) if recipe.stages != "probe" else 0
        rows = [(0, epoch, 0.5 + 0.01 * seed, 0.4) for epoch in range(epochs)]
        run_folder.write_csv(folder / run_folder.HISTORY, ("stage", "epoch", "accuracy", "val_accuracy"), rows)
        return SimpleNamespace(path=folder, accuracy=0.5 + 0.01 * seed + 0.1 * ("lenet" in variant))

    monkeypatch.setattr(Study, "trained", train)
    return trained


def test_permuted_pixels(pretended, digits, tmp_path):
    options = {"data": digits, "seeds": 2, "images": 60, "epochs": 1}
    result = run_experiment("permuted-pixels", options, out=tmp_path / "out")
    nets, pixels = ("fully_connected", "lenet5"), ("normal", "permuted")
    variants = {(f"{net}-{of}", seed) for net in nets for of in pixels for seed in (0, 1)}
    assert {(variant, seed) for variant, seed, _ in pretended} == variants
    assert all(counts == {"train": 51, "val": 9, "test": 60} for _, _, counts in pretended)
    assert (tmp_path / "out" / "chart.png").stat().st_size > 10_000
    assert "costs the dense net 0.00 points (95 % interval over seeds 0.00 to 0.00)" in result["verdict"]
    assert "it does not care" in result["verdict"]
    assert "LeNet-5's lead over the dense net is 10.00 points" in result["verdict"]


def test_translation(pretended, digits, tmp_path, monkeypatch):
    falling = [[90.0 - 10 * shift for shift in translation.NET_SHIFTS], [90.0 - 5 * s for s in translation.NET_SHIFTS]]
    monkeypatch.setattr(translation, "accuracy_by_shift", lambda run, *_: falling["lenet" in run.path.name])
    options = {"data": digits, "seeds": 2, "images": 60, "epochs": 1}
    result = run_experiment("translation", options, out=tmp_path / "out")
    assert [variant for variant, _, _ in pretended] == ["fully_connected", "lenet5"] * 2
    assert "equal to the last bits" in result["verdict"]
    assert "a shift by 4 costs LeNet-5 20.0" in result["verdict"]
    assert "The dense net loses more by 20.0" in result["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["permuted-pixels", "translation"])
def test_digits_for_real(name, digits, tmp_path):
    options = {"data": digits, "seeds": 2, "images": 60, "epochs": 1}
    result = run_experiment(name, options, out=tmp_path / "out")
    runs = [path for path in (tmp_path / "out" / "runs").iterdir() if run_folder.is_complete(path)]
    assert len(runs) == (8 if name == "permuted-pixels" else 4)
    accuracies = [cell for row in result["table"]["rows"][-2:] for cell in row[2:5]]
    assert all(0 <= float(cell) <= 100 for cell in accuracies)


def test_a_training_is_a_run_that_goes_on(pictures, tmp_path):
    """A complete one is read, not trained again."""
    study = open_study("depth", {"data": pictures, "images": 16, "epochs": 1}, tmp_path)
    source = depth._lay_out(study)
    values = scratch_recipe("resnet20_cifar", 1)
    run = study.trained("resnet20_cifar", 0, values, source)
    assert run.path == tmp_path / "runs" / "resnet20_cifar-0"
    assert len(error_by_epoch(run)) == len(error_by_epoch(run, "val_accuracy")) == 1
    written = (run.path / "model.keras").stat().st_mtime_ns
    assert study.trained("resnet20_cifar", 0, values, source).accuracy == run.accuracy
    assert (run.path / "model.keras").stat().st_mtime_ns == written


def test_trainings_side_by_side(digits, tmp_path):
    """Two workers do three trainings, one of them already done, and each is a run like any other."""
    study = open_study("permuted-pixels", {"data": digits, "images": 60, "epochs": 1, "workers": 2}, tmp_path)
    (images, labels), test = read_digits(digits)
    chosen = balanced(labels, 60, 0)
    source = ((images[chosen], labels[chosen]), test)
    planned = {("lenet5", seed): (recipe("lenet5", SIDE, 1), source) for seed in range(3)}
    study.trained("lenet5", 1, *planned["lenet5", 1])
    heard = Heard()
    runs = replace(study, listener=heard).all_trained(planned)
    assert list(runs) == list(planned)
    assert [run.path.name for run in runs.values()] == ["lenet5-0", "lenet5-1", "lenet5-2"]
    assert all(run.complete for run in runs.values())
    threads = [run_folder.read_json(run.path / run_folder.ENVIRONMENT)["threads"] for run in runs.values()]
    assert threads[0] == threads[2] == max(1, run_folder.usable_cpus() // 2)
    assert {line for line in heard.notes if "done" in line} == {"lenet5, seed 0: done", "lenet5, seed 2: done"}


def test_what_ends_a_training_side_by_side_ends_the_experiment_in_one_line(digits, tmp_path):
    study = open_study("permuted-pixels", {"data": digits, "images": 60, "epochs": 1, "workers": 2}, tmp_path)
    planned = {("lenet5", seed): (recipe("lenet5", SIDE, 1), str(tmp_path / "gone.npz")) for seed in (0, 1)}
    with pytest.raises(TlkitError, match=r"gone\.npz") as caught:
        study.all_trained(planned)
    assert "\n" not in str(caught.value)


def test_permuting_pixels_is_the_same_for_all_images():
    images = np.arange(2 * 9).reshape(2, 3, 3)
    moved = permuted_pixels.permuted(images, np.arange(9)[::-1])
    assert moved[0].tolist() == [[8, 7, 6], [5, 4, 3], [2, 1, 0]]
    assert np.array_equal(moved[1] - 9, moved[0])


def test_depth(pretended, pictures, tmp_path):
    options = {"data": pictures, "seeds": 2, "images": 16, "epochs": 3, "workers": 1}
    result = run_experiment("depth", options, out=tmp_path / "out")
    assert {(variant, seed) for variant, seed, _ in pretended} == {(net, seed) for net in depth.NETS for seed in (0, 1)}
    assert all(counts == {"train": 16, "val": 8} for _, _, counts in pretended)
    assert len(list((tmp_path / "out" / "data" / "train").rglob("*.jpg"))) == 16
    for of_net in result["figures"]["error_percent_by_epoch"].values():
        assert np.shape(of_net["training"]) == np.shape(of_net["held_out"]) == (2, 3)
        assert of_net["training"][0][0] == pytest.approx(50)


def test_the_verdict_on_depth_says_what_it_is():
    found = {
        net: {"training": [[50.0, error], [50.0, error + 0.1]]}
        for net, error in zip(depth.NETS, (20.0, 30.0, 18.0, 19.0), strict=True)
    }

    class Study:
        settings = {"epochs": 2, "images": 10_000}  # noqa: RUF012

    said = depth._verdict(Study, found)
    assert "exceeds that of 20 by 10.0 points" in said
    assert "how fast the nets are optimized, not the paper's converged result" in said


def test_transfer(pretended, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer_vs_scratch, "PER_CLASS", (8, 16))
    options = {"data": pictures, "seeds": 2, "images": 12, "epochs": 1}
    result = run_experiment("transfer-vs-scratch", options, out=tmp_path / "out")
    assert {variant for variant, _, _ in pretended} == {
        f"{kind}-{count}" for kind in ("transfer", "scratch") for count in (8, 12)
    }
    assert all(counts["test"] == 8 for _, _, counts in pretended)
    of_eight = [counts["train"] + counts["val"] for variant, _, counts in pretended if variant.endswith("-8")]
    assert of_eight == [16] * 4
    assert "With 8 images per class" in result["verdict"]


def test_an_archive_gives_the_same_images_as_its_folder(pictures, tmp_path):
    with tarfile.open(tmp_path / "cifar10.tar.gz", "w:gz") as archive:
        archive.add(pictures, arcname=".")
    names = {}
    for source in (pictures, tmp_path / "cifar10.tar.gz"):
        pool = Pool(source)
        chosen = pool.choose("train", 3, seed=1)
        assert set(chosen) < set(pool.choose("train", 5, seed=1))
        folder = tmp_path / source.name.replace(".", "-")
        pool.lay_out(chosen, folder)
        names[source] = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.jpg")}
        assert len(names[source]) == 6
    assert len(set(map(str, names.values()))) == 1


def test_an_archive_s_names_lead_nowhere_else(tmp_path, pictures):
    """Only the last three parts of a name are used, and those say train or test."""
    image = next(pictures.rglob("*.jpg"))
    with tarfile.open(tmp_path / "odd.tar.gz", "w:gz") as archive:
        for name in ("../../train/a/1.jpg", "/train/b/1.jpg", "test/a/1.jpg", "x/test/b/1.jpg", "train/../1.jpg"):
            archive.addfile(_member(name, image), io.BytesIO(image.read_bytes()))
    pool = Pool(tmp_path / "odd.tar.gz")
    assert pool.names["train"] == {"a": ["train/a/1.jpg"], "b": ["train/b/1.jpg"]}
    pool.lay_out(["train/a/1.jpg", "train/b/1.jpg"], tmp_path / "data")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "odd.tar.gz"]


def _member(name, file):
    member = tarfile.TarInfo(name)
    member.size = file.stat().st_size
    return member
