"""What the commands print: results on stdout, everything else on stderr."""

import csv
import json

import pytest
from PIL import Image

from tlkit.catalog import BACKBONES


def test_finetune_ends_with_the_figure_the_folder_and_the_next_command(tlkit, photos, tmp_path, tiny):
    settings = [word for setting in (*tiny, "stages.0.epochs=1") for word in ("--set", setting)]
    status, out, err = tlkit(
        "finetune", "--data", photos, "--recipe", "ants_bees", "--out", tmp_path / "run", *settings
    )
    assert status == 0, err
    accuracy, run, report, predict = out.splitlines()
    assert accuracy.startswith("test accuracy ")
    assert "95 % interval" in accuracy
    assert run == f"run: {tmp_path / 'run'}"
    assert report == f"report: {tmp_path / 'run' / 'report.html'}"
    assert predict == f"predict with: tlkit predict {tmp_path / 'run'} PHOTO.jpg"
    assert "stage 0 epoch  1/1" in err


def test_evaluate_prints_a_table_or_json(tlkit, tiny_run):
    status, out, _ = tlkit("evaluate", tiny_run.path)
    assert status == 0
    assert "precision" in out
    status, out, _ = tlkit("evaluate", tiny_run.path, "--json", "--tta", "flip")
    assert json.loads(out)["tta"] == "flip"
    assert json.loads(out)["n"] == tiny_run.metrics["test"]["n"]


def test_predict_prints_a_table_json_or_csv(tlkit, tiny_run, tmp_path):
    photos = tiny_run.path.parent / "photos"
    status, out, _ = tlkit("predict", tiny_run.path, photos / "a", photos / "b" / "00.jpg", "--top", 2)
    assert status == 0
    assert sum(".jpg" in line or ".png" in line for line in out.splitlines()) == 13
    status, out, _ = tlkit("predict", tiny_run.path, photos / "a" / "00.jpg", "--json", "--top", 2)
    (prediction,) = json.loads(out)
    top = prediction["tasks"]["label"]["top"]
    assert top[0]["class"] == prediction["tasks"]["label"]["prediction"]
    assert sum(entry["probability"] for entry in top) == pytest.approx(1, abs=1e-5)
    status, out, _ = tlkit("predict", tiny_run.path, photos, "--csv", tmp_path / "out.csv")
    assert out == ""
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert float(rows[0]["label.a"]) + float(rows[0]["label.b"]) == pytest.approx(1, abs=1e-5)


def test_a_bad_file_in_a_folder_is_left_out_and_named(tlkit, tiny_run, photos):
    (photos / "a" / "00.jpg").write_bytes(b"no image")
    status, out, err = tlkit("predict", tiny_run.path, photos, "--json")
    assert status == 0
    assert len(json.loads(out)) == 23
    assert "00.jpg" in err


def test_audit_counts_and_names(tlkit, photos):
    (photos / "a" / "00.jpg").write_bytes(b"")
    status, out, _ = tlkit("audit", photos)
    assert status == 0
    assert "23 usable images" in out
    assert "a/00.jpg" in out
    status, out, _ = tlkit("audit", photos, "--json")
    assert json.loads(out)["findings"][0]["path"] == "a/00.jpg"


def test_audit_draws_what_the_network_will_see(tlkit, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = tlkit("audit", photos, "--preview")
    assert status == 0, err
    assert "24 usable images" in out
    *_, wrote, risk = out.splitlines()
    assert wrote == "preview: preview-light.png"
    assert risk.startswith("the augment policy 'light' flips horizontally, and the classes look like letters")
    with Image.open("preview-light.png") as sheet:
        assert sheet.size[0] == 8 * (224 + 4) + 4
    status, out, err = tlkit(
        "audit", photos, "--json", "--preview", "small.png", "--image-size", 32, "--fit", "squash", "--augment", "none"
    )
    assert json.loads(out)["counts"]
    assert err.splitlines()[-1] == "preview: small.png"
    with Image.open("small.png") as sheet:
        assert sheet.size[0] == 8 * (96 + 4) + 4
    status, out, _ = tlkit("audit", photos, "--preview", "--augment", '[{op="D4"}]')
    assert "preview: preview-ops.png" in out
    assert "list of ops flips" in out


def test_lists_name_what_there_is(tlkit):
    _, out, _ = tlkit("backbones", "--json")
    assert [row["name"] for row in json.loads(out)] == list(BACKBONES)
    for command, name in {"backbones": "efficientnet_lite0", "recipes": "ants_bees", "datasets": "hymenoptera"}.items():
        status, out, _ = tlkit(command)
        assert status == 0
        assert name in out


def test_a_recipe_and_a_card_are_printed_whole(tlkit):
    assert "[[stages]]" in tlkit("recipes", "ants_bees")[1]
    assert "licence" in tlkit("datasets", "hymenoptera")[1]
    assert json.loads(tlkit("recipes", "--schema")[1])["title"] == "Recipe"
