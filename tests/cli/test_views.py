"""What the commands print of test-time views."""

import json

import pytest

from tlkit.cli.views import describe_views, print_views

ROW = {
    "name": "flip", "views": 2, "split": "test", "task": "label", "metric": "accuracy",
    "value": 0.95, "interval": [0.9, 0.98], "gain": 0.02, "gain_interval": [-0.01, 0.05],
    "flipped_right": 4, "flipped_wrong": 1, "p": 0.375,
}  # fmt: skip
MEASURED = {"average": "probabilities", "chosen": "none", "rows": [ROW]}


def test_a_table_has_a_row_per_set_and_task(capsys):
    error = ROW | {"task": "age", "metric": "mae", "flipped_right": None, "flipped_wrong": None, "p": 1e-4}
    print_views(MEASURED | {"rows": [ROW, error], "chosen": "flip", "reason": "flip helps"})
    header, _, first, second, said = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert " ".join(header) == "views on figure value gain 95 % interval right now wrong now p"
    assert " ".join(first) == "flip (2) test accuracy 0.950 +0.020 -0.010 to +0.050 4 1 0.38"
    assert " ".join(second) == "flip (2) test age mae 0.950 +0.020 -0.010 to +0.050 0.0001"
    assert " ".join(said) == "views: flip: flip helps"


def test_the_last_screen_speaks_of_views_only_if_they_matter():
    assert describe_views(MEASURED) is None
    helps = describe_views(MEASURED | {"chosen": "flip", "reason": "flip helps: accuracy 0.950 (+0.020) on val"})
    assert helps == (
        "test-time views: flip helps: accuracy 0.950 (+0.020) on val; `predict` and `evaluate` take --tta flip"
    )
    hurts = ROW | {"gain": -0.04, "p": 0.001}
    assert "flip makes it worse, accuracy 0.950 (-0.040) on test (p 0.001)" in describe_views(
        MEASURED | {"rows": [hurts]}
    )
    assert describe_views(MEASURED | {"rows": [hurts | {"split": "val"}, hurts | {"p": 0.06}]}) is None


def test_evaluate_and_predict_take_views(tlkit, tiny_run, tmp_path):
    status, out, err = tlkit("evaluate", tiny_run.path, "--json", "--tta", "auto", "--average", "logits")
    assert status == 0, err
    document = json.loads(out)
    assert document["tta"] == "auto"
    assert document["tta_measured"]["average"] == "logits"
    assert {row["name"] for row in document["tta_measured"]["rows"]} == {"fivecrop", "multiscale"}  # classes a and b
    photo = tiny_run.path.parent / "photos" / "a" / "00.jpg"
    status, out, err = tlkit("predict", tiny_run.path, photo, "--json", "--tta", "auto")
    assert status == 0, err
    assert "auto: none, as validation said" in err
    (tmp_path / "mine.toml").write_text("[[views]]\n[[views]]\nscale = 1.5\n")
    status, out, err = tlkit("predict", tiny_run.path, photo, "--json", "--tta", tmp_path / "mine.toml")
    assert status == 0, err
    (prediction,), (answer,) = json.loads(out), tiny_run.predict(photo, tta=tmp_path / "mine.toml")
    assert prediction["tasks"]["label"]["probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert answer.probability != tiny_run.predict(photo)[0].probability
