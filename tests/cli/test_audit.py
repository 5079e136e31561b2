"""`tlkit audit` on the command line: what it prints, what it refuses before the work, what it writes."""

import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def copied(photos):
    """A folder with given splits: photos of two classes, one of them in two splits and one under two labels."""
    for split, numbers in (("train", range(8)), ("test", range(8, 12))):
        for name in ("a", "b"):
            (photos / split / name).mkdir(parents=True)
            for path in sorted((photos / name).glob("*")):
                if int(path.stem) in numbers:
                    path.rename(photos / split / name / path.name)
    for name in ("a", "b"):
        (photos / name).rmdir()
    shutil.copyfile(photos / "train/a/00.jpg", photos / "test/a/leak.jpg")
    shutil.copyfile(photos / "train/a/02.jpg", photos / "train/b/both.jpg")
    return photos


def test_findings_come_by_kind_with_their_counts(tlkit, copied):
    status, out, err = tlkit("audit", copied, "--quick")
    assert status == 0, err
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.endswith(" findings"))
    kinds = [line for line in lines[start + 1 :] if not line.startswith((" ", "not checked"))]
    assert int(lines[start].split()[0]) == sum(int(line.split()[1].rstrip(",")) for line in kinds)
    assert lines[start + 1] == "leak: 1, in two splits at once: the score is flattered"
    assert lines[start + 2].startswith("  train/a/00.jpg: identical to test/a/leak.jpg, but in ")
    assert lines[start + 3] == "conflicting_label: 1, one picture, two labels: one of them is wrong"
    assert lines[start + 4] == "  train/b/both.jpg: identical to train/a/02.jpg, but labelled 'b' while that is 'a'"
    assert lines[-2:] == [
        "not checked: label_error (--quick: needs a model)",
        "not checked: outlier (--quick: needs a model)",
    ]


def test_json_is_one_document_and_nothing_else(tlkit, copied, tmp_path):
    status, out, err = tlkit("audit", copied, "--quick", "--json", "--clean", tmp_path / "clean.csv")
    assert status == 0
    document = json.loads(out)
    assert document["audit"]["counts"]["leak"] == 1
    assert document["audit"]["backbone"] is None
    leak = document["findings"][0]
    assert leak == {
        "path": "train/a/00.jpg",
        "other": "test/a/leak.jpg",
        "kind": "leak",
        "problem": leak["problem"],
        "score": 1.0,
        "left_out": False,
    }
    assert err.splitlines()[-1].startswith(f"clean: {tmp_path / 'clean.csv'}: 23 of 26 images (of copies with equal")


def test_finetune_takes_the_cleaned_list(tlkit, copied, tmp_path, tiny):
    status, out, _ = tlkit("audit", copied, "--quick", "--clean", tmp_path / "clean.csv")
    assert status == 0
    assert "23 of 26 images" in out
    settings = [word for setting in (*tiny, "stages=probe") for word in ("--set", setting)]
    status, out, err = tlkit("finetune", "--data", tmp_path / "clean.csv", "--out", tmp_path / "run", *settings)
    assert status == 0, err
    findings = json.loads((tmp_path / "run" / "data.json").read_text())["findings"]
    assert findings == []


@pytest.mark.parametrize(
    ("names", "options"),
    [(("red dress", "blue dress", "red hat"), " --task label=single_label"), (("a", "b"), "")],
)
def test_the_options_that_the_cleaned_list_needs_are_said(tlkit, tmp_path, photo_folder, names, options):
    photos = photo_folder(tmp_path / "photos", names, per_class=3)
    status, out, _ = tlkit("audit", photos, "--quick", "--clean", tmp_path / "clean.csv")
    assert status == 0
    said = out.splitlines()[-1]
    assert said.endswith(f"to read it, add{options}" if options else "with all its copies)")
    status, _, err = tlkit("audit", tmp_path / "clean.csv", "--quick", *options.split())
    assert status == 0, err


def test_it_is_said_how_many_images_were_dropped(tlkit, photos, tmp_path):
    status, out, _ = tlkit("audit", photos, "--quick", "--clean", tmp_path / "clean.csv", "--drop", "tiny")
    assert status == 0
    assert "24 of 24 images" in out.splitlines()[-1]  # the set is one of small pictures: none of them is odd
    assert out.splitlines()[-1].endswith("; as asked, further images: tiny (0))")


def test_a_list_that_cannot_be_written_costs_no_findings(tlkit, tmp_path):
    np.savez(tmp_path / "set.npz", images=np.arange(24 * 75).reshape(24, 5, 5, 3) % 251, labels=np.arange(24) % 2)
    status, out, err = tlkit("audit", tmp_path / "set.npz", "--quick", "--clean", tmp_path / "clean.csv")
    assert status == 2
    assert "tiny: 1, small pictures" in out
    assert "--clean: the images are arrays" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clean", "exists.csv"), "exists already, and nothing is overwritten"),
        (("--clean", "list.txt"), "expected the name of a CSV file, such as list.csv"),
        (("--clean", "nowhere/list.csv"), "no such folder"),
        (("--clean", f"{'x' * 300}.csv"), "File name too long"),
        (("--drop", "outlier"), "--drop: only --clean needs it"),
        (("--clean", "a.csv", "--drop", "outliers"), "Did you mean 'outlier'?"),
        (("--clean", "a.csv", "--drop", "outlier", "--quick"), "--quick finds no label errors"),
        (("--backbone", "resnet51"), "Did you mean 'resnet50"),
        (("--backbone", "resnet50", "--quick"), "--quick looks at no features"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(tlkit, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exists.csv").write_text("mine")
    status, out, err = tlkit("audit", tmp_path / "no such data", *options)
    assert status == 2
    assert out == ""
    assert message in err.splitlines()[-1]
    assert (tmp_path / "exists.csv").read_text() == "mine"
