"""`tlkit inspect`: the table, its two files, and what users get wrong."""

import csv
import json

import pytest

import tlkit as package


def test_it_prints_the_layers_and_what_they_come_to(tlkit):
    status, out, err = tlkit("inspect", "lenet5")
    assert status == 0, err
    header, *lines = out.splitlines()[1:]
    assert header.split() == ["layer", "kind", "output", "values", "weights", "biases", "MACs", "sees", "stride"]
    c1 = next(line for line in lines if line.split()[:1] == ["c1"])
    assert c1.split() == ["c1", "CONV5-6", "28x28x6", "4.7", "k", "150", "6", "118", "k", "5", "1"]
    assert any("parameters: 61,706 = 61,470 weights + 236 biases" in line for line in lines)
    assert not any("tanh" in line or "softmax" in line.lower() for line in lines)


def test_every_layer_is_shown_on_request(tlkit):
    _, short, _ = tlkit("inspect", "lenet5", "--json")
    _, long, _ = tlkit("inspect", "lenet5", "--all", "--json")
    short, long = json.loads(short), json.loads(long)
    assert len(short["layers"]) < len(long["layers"])
    assert {row["label"] for row in long["layers"]} >= {"FLATTEN", "SOFTMAX"}
    for total in ("parameters", "weights", "biases", "activations", "activation_bytes", "macs"):
        assert short[total] == long[total]


def test_json_and_csv_hold_the_same_figures(tlkit, tmp_path):
    _, out, _ = tlkit("inspect", "lenet5", "--json")
    document = json.loads(out)
    assert document["name"] == "lenet5"
    assert document["weights"] == 5 * 5 * 6 + 5 * 5 * 6 * 16 + 16 * 5 * 5 * 120 + 120 * 84 + 84 * 10 == 61_470
    c3 = next(row for row in document["layers"] if row["name"] == "c3")
    assert c3["receptive_field"] == [14, 14]
    assert c3["macs"] == 10 * 10 * 16 * 5 * 5 * 6
    assert document["layers"][-1]["receptive_field"] == "image"
    status, out, _ = tlkit("inspect", "lenet5", "--csv", tmp_path / "lenet5.csv")
    assert (status, out) == (0, "")
    with (tmp_path / "lenet5.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in document["layers"]]
    assert sum(int(row["macs"]) for row in rows) == document["macs"]
    assert next(row for row in rows if row["name"] == "c3")["output_shape"] == "10x10x16"


def test_the_image_size_is_a_choice(tlkit):
    _, out, _ = tlkit("inspect", "mobilenet_v2", "--image-size", 64, "--json")
    small = json.loads(out)
    assert small["layers"][0]["output_shape"] == [64, 64, 3]
    assert small["parameters"] == 3_538_984  # with its top, as https://keras.io/api/applications states


def test_a_run_is_inspected_as_it_was_saved(tlkit, tiny_lite0_run):
    status, out, err = tlkit("inspect", tiny_lite0_run.path, "--json")
    assert status == 0, err
    document = json.loads(out)
    assert document["name"] == "efficientnet_lite0"
    assert document["layers"][0]["output_shape"] == [32, 32, 3]
    assert document["layers"][-1]["output_shape"] == [2]
    assert document["notes"] == []


def test_python_takes_a_model_too(tiny_lite0_run):
    import keras

    image = keras.Input((8, 8, 3))
    table = package.inspect(keras.Model(image, keras.layers.Conv2D(2, 3)(image)))
    assert table.macs == 6 * 6 * 2 * 3 * 3 * 3
    with pytest.raises(package.TlkitError, match="image_size"):
        package.inspect(keras.Model(image, keras.layers.ReLU()(image)), image_size=16)
    assert package.inspect(tiny_lite0_run.path).parameters == package.inspect(str(tiny_lite0_run.path)).parameters


MISTAKES = {
    "name": ("inspect resnet51", "Did you mean 'resnet50'?"),
    "nothing": ("inspect", "NET|BACKBONE|RUN"),
    "not a run": ("inspect photos", "photos: not a run folder"),
    "too small": ("inspect mobilenet --image-size 16", "must be at least 32 for mobilenet"),
    "no number": ("inspect mobilenet --image-size big", "--image-size"),
    "size of a run": ("inspect {run} --image-size 64", "--image-size: "),
    "csv nowhere": ("inspect lenet5 --csv gone/x.csv", "--csv gone/x.csv: can't write it"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake, tlkit, photos, tiny_lite0_run, monkeypatch):
    monkeypatch.chdir(photos.parent)
    command, said = MISTAKES[mistake]
    status, out, err = tlkit(*command.format(run=tiny_lite0_run.path).split())
    assert (status, out) == (2, "")
    (line,) = (line for line in err.splitlines() if line.startswith("tlkit: "))
    assert said in line
