"""The experiments that train, with tiny settings: what they write, and that they go on where they were."""

import io
import signal
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from workers import DoomedStudy, Heard

from tlkit import run as run_folder
from tlkit.api import load_data
from tlkit.errors import TlkitError
from tlkit.experiments import depth, permuted_pixels, side_by_side, transfer_vs_scratch, translation
from tlkit.experiments.history import error_by_epoch
from tlkit.experiments.pictures import Pool, scratch_recipe
from tlkit.experiments.side_by_side import train_side_by_side
from tlkit.experiments.study import Study, open_study, run_experiment
from tlkit.recipe import check_recipe
from tlkit.training import repeatable


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


@pytest.mark.slow
def test_trainings_side_by_side_are_stopped_and_go_on(pictures, tmp_path):
    """Two workers train; asked to stop, they save, and fewer workers go on to ordinary runs."""
    command = [sys.executable, "-m", "tlkit", "experiment", "depth", "--out", str(tmp_path / "out")]
    settings = ["--data", str(pictures), "--images", "16", "--epochs", "20", "--seeds", "2"]
    with subprocess.Popen([*command, *settings], stderr=subprocess.PIPE, text=True) as process:
        heard = [next(line for line in process.stderr if "epoch  3" in line)]
        process.send_signal(signal.SIGTERM)
        heard += process.stderr.read().splitlines()
    assert process.returncode == 143
    assert heard[0].startswith("plain56_cifar, seed ")
    assert heard[-1] == f"tlkit: SIGTERM: stopped and saved. To go on: tlkit experiment depth --out {tmp_path / 'out'}"
    begun = [path.name for path in (tmp_path / "out" / "runs").iterdir()]
    assert sorted(begun) == ["plain56_cifar-0", "plain56_cifar-1"]
    again = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=True)
    assert again.stderr.count("stage 0: resumed at step") == 2
    assert {path.name for path in (tmp_path / "out" / "runs").iterdir() if run_folder.is_complete(path)} == {
        f"{net}-{seed}" for net in depth.NETS for seed in (0, 1)
    }


@pytest.fixture
def doomed(pictures, tmp_path):
    """A study of two workers whose trainings do what they are told."""
    study = open_study("depth", {"data": pictures, "images": 16, "epochs": 1}, tmp_path)
    (tmp_path / "runs").mkdir()
    return DoomedStudy(study.experiment, study.settings, study.path, Heard(tmp_path / "heard"))


def test_workers_share_trainings_and_a_dead_ones_is_done_again(doomed):
    trainings = [("net", seed, "dies at first" if seed == 1 else "", None) for seed in range(3)]
    train_side_by_side(doomed, trainings, workers=2, threads=3)
    attempts = [(doomed.path / "runs" / f"net-{seed}.attempts").read_text().split() for seed in range(3)]
    assert [len(of_seed) for of_seed in attempts] == [2, 4, 2]
    assert {threads for of_seed in attempts for threads in of_seed[1::2]} == {"3"}
    assert sorted((doomed.path / "heard").read_text().splitlines()) == [f"net, seed {n}: trained" for n in range(3)]


def test_what_ends_a_training_ends_the_experiment_in_one_line(doomed):
    with pytest.raises(TlkitError, match=r"^net, seed 7: the images are gone$"):
        train_side_by_side(doomed, [("net", 7, "fails", None)], workers=1, threads=1)


def test_a_bug_in_a_worker_is_seen_once_and_with_its_trace(doomed):
    with pytest.raises(RuntimeError, match=r"(?s)net, seed 7: a worker met with a bug:.*ZeroDivisionError"):
        train_side_by_side(doomed, [("net", 7, "has a bug", None)], workers=1, threads=1)
    assert len((doomed.path / "runs" / "net-7.attempts").read_text().splitlines()) == 1


def test_runs_of_all_recipes_come_in_order_whoever_trains_them(doomed, monkeypatch):
    """Complete ones are checked here; no worker is asked for a graphics processor, or for nothing."""
    asked = []
    monkeypatch.setattr(side_by_side, "train_side_by_side", lambda *arguments: asked.append(arguments[1:]))
    monkeypatch.setattr("tlkit.api.load_run", lambda path: path.name)
    monkeypatch.setattr(DoomedStudy, "trained", lambda self, variant, seed, *_: f"here {variant}-{seed}")
    monkeypatch.setattr(run_folder, "is_complete", lambda path: path.name == "b-0")
    monkeypatch.setattr(repeatable, "describe_device", lambda: ("CPU", 7))
    planned = {(name, 0): ({}, name) for name in "abc"}
    assert [run for _, run in doomed.all_trained(planned)] == ["a-0", "here b-0", "c-0"]
    assert asked == [([("a", 0, {}, "a"), ("c", 0, {}, "c")], 2, 3)]
    monkeypatch.setattr(repeatable, "describe_device", lambda: ("1 x H200", 7))
    assert [run for _, run in doomed.all_trained(planned)] == ["here a-0", "here b-0", "here c-0"]
    monkeypatch.setattr(run_folder, "is_complete", lambda path: True)
    assert [run for _, run in doomed.all_trained(planned)] == ["here a-0", "here b-0", "here c-0"]
    assert len(asked) == 1


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
