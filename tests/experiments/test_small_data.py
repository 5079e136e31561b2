"""The small-data toolbox: every remedy is trained on the same digits, and compared seed by seed."""

import csv

import pytest

from tlkit.errors import DataError
from tlkit.experiments import small_data
from tlkit.experiments.study import run_experiment
from tlkit.recipe import recipe_names


def test_every_recipe_of_the_toolbox_is_a_remedy():
    assert {f"small_data/{name}" for name in small_data.REMEDIES} == {
        name for name in recipe_names() if name.startswith("small_data/")
    }


def test_gains_are_paired_by_seed(digits, tmp_path, monkeypatch):
    asked = []

    def pretend(study, name, seed, count, images, labels, test):
        asked.append((name, seed, count, len(test[1])))
        easier = {"augmentation": 0.2, "more_data": 0.3, "l1": -0.1}.get(name, 0.0)
        return {"train": 0.99, "test": 0.5 + 0.1 * seed + easier}

    monkeypatch.setattr(small_data, "_train", pretend)
    result = run_experiment("small-data", {"data": digits, "seeds": 2, "images": 24}, out=tmp_path / "out")
    assert len(asked) == 2 * len(small_data.REMEDIES)
    assert {count for name, _, count, _ in asked if name != "more_data"} == {24}
    assert {count for name, _, count, _ in asked if name == "more_data"} == {240}
    assert {tested for *_, tested in asked} == {60}
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = {row["against few digits"]: row for row in csv.DictReader(file)}
    # the seeds differ by ten points, the gain of a remedy by none
    assert rows["augmentation"]["test over nothing, points"] == "+20.0"
    assert rows["augmentation"]["95 % interval"] == "+20.0 to +20.0"
    assert rows["nothing"]["test, %"] == "55.0"
    assert (
        "gets 99.0 % of those right that it is fitted to (some choose the epoch), and 55.0 % of 60 others"
        in result["verdict"]
    )
    assert "augmentation raises it most" in result["verdict"]
    assert (tmp_path / "out" / "chart.png").stat().st_size > 10_000


def test_digits_are_counted_for_ten_times_as_many_before_anything_is_trained(digits, tmp_path):
    with pytest.raises(DataError, match="--images 400: 134 of class 0 are needed"):
        run_experiment("small-data", {"data": digits, "seeds": 2, "images": 40}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_toolbox_for_real(digits, tmp_path):
    result = run_experiment("small-data", {"data": digits, "seeds": 2, "images": 24}, out=tmp_path / "out")
    assert len(result["table"]["rows"]) == len(small_data.REMEDIES)
    for of in result["figures"]["accuracy"].values():
        assert all(0 <= one[part] <= 1 for one in of for part in ("train", "test"))
