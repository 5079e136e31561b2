"""`tlkit tune`: what is printed, and one line for what the user can mend."""

import pytest

SMALL = ["--backbone", "lenet5", "--weights", "none", "--set", "data.image_size=32", "--set", "head.init=random"]


def test_it_prints_the_trials_and_the_recipe(tlkit, photos, tmp_path):
    out = tmp_path / "search"
    status, text, err = tlkit(
        "tune", "--data", photos, *SMALL, "--trials", 2, "--seeds", 0, "--no-nested", "--out", out
    )
    assert status == 0, err
    assert "trials: 2; 2 done" in text
    assert text.splitlines()[-1] == f"best recipe: {out / 'best.toml'}"
    assert "trial   2  score -" in err
    assert "the recipe's own settings: score -" in err
    status, again, _ = tlkit("tune", "--resume", "--out", out)
    assert (status, again) == (0, text)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "--data: missing"),
        (["--resume"], "--resume: say which search with --out"),
        (["--resume", "--out", "nowhere"], "nowhere: holds no search"),
        (["--resume", "--out", "nowhere", "--trials", "3"], "everything is known from --out"),
        (["--data", "x", "--folds", "5"], "a search has one validation split"),
        (["--data", "no-such-folder"], "no-such-folder"),
        (["--data", "x", "--oracle", "delphi"], "delphi"),
    ],
)
def test_mistakes_get_one_line(tlkit, options, line):
    status, out, err = tlkit("tune", *options)
    assert (status, out) == (2, "")
    assert line in err
    assert len(err.strip().splitlines()) == 1
