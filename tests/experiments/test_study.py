"""The folder of an experiment: what is kept, what is refused, what is done again."""

import csv

import numpy as np
import pytest
from PIL import Image

from tlkit import run as run_folder
from tlkit.errors import RunError, Stopped, TlkitError
from tlkit.experiments import initialization
from tlkit.experiments.digits import balanced, shifted
from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.study import run_experiment


def test_student_s_interval_by_hand():
    """Of 1, 2, 3: mean 2, standard deviation 1, t of two degrees of freedom 4.3027."""
    one = spread([1, 2, 3])
    assert (one.mean, one.lowest, one.highest) == (2, 1, 3)
    assert one.high - 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert one.low + one.high == pytest.approx(4)
    assert "more than chance" not in judged(one, "More")
    assert "more than chance" in judged(spread([1, 1.01, 0.99]), "More")
    assert "the contrary" in judged(spread([-1, -1.01, -0.99]), "More")


def test_subsets_of_sorted_labels_are_even_and_mixed():
    labels = np.repeat(np.arange(10), 50)
    chosen = balanced(labels, 200, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [20] * 10
    assert len(set(chosen.tolist())) == 200
    assert len(set(labels[chosen[:20]].tolist())) > 5
    assert not np.array_equal(chosen, balanced(labels, 200, seed=2))
    assert np.array_equal(chosen, balanced(labels, 200, seed=1))


def test_shifts_move_and_fill_with_zeros():
    image = np.arange(1, 10).reshape(1, 3, 3)
    assert shifted(image, 1, 0)[0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert shifted(image, 0, -1)[0].tolist() == [[2, 3, 0], [5, 6, 0], [8, 9, 0]]
    assert np.array_equal(shifted(image, 0, 0), image)


@pytest.fixture
def few_layers(monkeypatch):
    """Pretend to measure, and list what was."""
    measured = []

    def measure_net(scheme, batch_norm, seed):
        measured.append((scheme, batch_norm, seed))
        size = 1 + seed / 10 + len(scheme)
        sizes = [size / (1 + layer) for layer in range(initialization.DEPTH)]
        return {"activations": sizes, "gradients": sizes}

    monkeypatch.setattr(initialization, "measure_net", measure_net)
    return measured


def test_killed_it_goes_on_and_ends_with_the_same_figures(few_layers, tmp_path, monkeypatch):
    whole = run_experiment("initialization", {"seeds": 2}, out=tmp_path / "whole")
    assert len(few_layers) == 12
    counted, done = initialization.measure_net, []

    def killed(*arguments):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(arguments)
        return counted(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(initialization, "measure_net", killed)
        with pytest.raises(Stopped, match=f"To go on: tlkit experiment initialization --out {tmp_path / 'part'}"):
            run_experiment("initialization", {"seeds": 2}, out=tmp_path / "part")
    assert not (tmp_path / "part" / "experiment.json").exists()
    few_layers.clear()
    resumed = run_experiment("initialization", out=tmp_path / "part")
    assert len(few_layers) == 12 - 5
    assert resumed["figures"] == whole["figures"]
    few_layers.clear()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "part").rglob("*")}
    again = run_experiment("initialization", out=tmp_path / "part")
    assert again["verdict"] == whole["verdict"]
    assert not few_layers
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "part").rglob("*")}
    with pytest.raises(RunError, match="holds this experiment with --seeds 2"):
        run_experiment("initialization", {"seeds": 3}, out=tmp_path / "part")
    with pytest.raises(RunError, match="holds the experiment initialization"):
        run_experiment("receptive-field", out=tmp_path / "part")


def test_the_folder_holds_table_chart_and_result(few_layers, tmp_path):
    result = run_experiment("initialization", {"seeds": 2}, out=tmp_path / "out")
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == result["table"]["header"]
    assert len(rows) == 6
    with Image.open(tmp_path / "out" / "chart.png") as picture:
        assert picture.size[0] > 1000
    written = run_folder.read_json(tmp_path / "out" / "experiment.json")
    assert written["seeds"] == [0, 1]
    assert written["environment"]["packages"]["keras"]
    assert "interval" in written["verdict"]
    assert written["claim"].startswith("Weights of the wrong size")


def test_hidden_files_of_the_user_stay(few_layers, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (tmp_path / ".gitignore").write_text("runs")
    (tmp_path / ".table-x1.tmp.csv").write_text("half of a")
    (tmp_path / ".tlkit-images-x1").mkdir()
    run_experiment("initialization", {"seeds": 2}, out=tmp_path)
    assert (tmp_path / ".git" / "HEAD").is_file()
    assert sorted(entry.name for entry in tmp_path.glob(".*")) == [".git", ".gitignore"]


def test_one_seed_has_no_interval_and_is_refused_at_once(few_layers, tmp_path):
    with pytest.raises(TlkitError, match="--seeds: expected 2 or more"):
        run_experiment("initialization", {"seeds": 1}, out=tmp_path / "out")
    assert not few_layers
