"""`tlkit rank`: the table, what comes next, and one line for what the user can mend."""

import json

import pytest

LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    return photo_folder(tmp_path_factory.mktemp("rank") / "my photos", per_class=24)


def test_it_prints_the_table_and_what_comes_next(tlkit, photos):
    status, out, err = tlkit("rank", "--data", photos, "--backbone", LITE, "--seed", 3)
    assert status == 0, err
    assert f"*   {LITE}" in out
    assert "best: efficientnet_lite0" in out
    assert out.splitlines()[-1] == f"fine-tune with: tlkit finetune --backbone {LITE} --data '{photos}' --seed 3"
    assert "the 7 test images stay unseen" in err


def test_json_is_one_document(tlkit, photos):
    status, out, _ = tlkit("rank", "--data", photos, "--backbone", LITE, "--json")
    assert status == 0
    document = json.loads(out)
    assert document["best"] == LITE
    assert document["backbones"][0]["tasks"]["label"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "--data: missing"),
        (["--data", "x", "--weights", "resnet50"], "--weights: expected NAME=PATH"),
        (["--data", "x", "--backbone", "resnet5"], "Did you mean 'resnet50'?"),
        (["--data", "no-such-folder", "--backbone", LITE], "no-such-folder"),
    ],
)
def test_mistakes_get_one_line(tlkit, options, line):
    status, out, err = tlkit("rank", *options)
    assert (status, out) == (2, "")
    assert line in err
    assert len(err.strip().splitlines()) == 1
