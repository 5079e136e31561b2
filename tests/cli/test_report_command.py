"""`tlkit report`: where the page lies, and one clear line for what a user gets wrong."""

import pytest
from made_runs import make_run
from page import read_page


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one", "two")):
        run = make_run(tmp_path / name, seed=seed, pictures=False)  # no picture to explain: no model is read
        assert run.is_dir()
    return tmp_path


def test_one_run(tlkit, runs):
    status, out, err = tlkit("report", "one")
    assert (status, out) == (0, "report: one/report.html\n"), err
    assert read_page(runs / "one" / "report.html").one("h1").values
    (runs / "one" / "report.html").write_text("old")
    assert tlkit("report", "one")[0] == 0
    assert read_page(runs / "one" / "report.html").one("h1").values


def test_several_runs(tlkit, runs):
    assert tlkit("report", "one", "two")[:2] == (0, "report: report-compare.html\n")
    assert tlkit("report", "one", "two", "--out", "page.html")[:2] == (0, "report: page.html\n")
    assert (runs / "page.html").read_bytes() == (runs / "report-compare.html").read_bytes()
    assert not (runs / "one" / "report.html").exists()


WRONG = {
    "no such run": (("absent",), "absent: no such run folder"),
    "near miss": (("onee",), "Did you mean 'one'?"),
    "incomplete": (("one", "half"), "half: this run is not complete"),
    "no run": (("one", "folder"), "folder: not a run folder"),
    "twice": (("one", "./one"), "one, ./one: a run is named twice"),
    "out of one": (("one", "--out", "x.html"), "--out: a run's report lies in its folder, one/report.html"),
    "out exists": (("one", "two", "--out", "here.html"), "--out here.html: exists already"),
    "out no page": (("one", "two", "--out", "page.pdf"), "--out page.pdf: expected the name of an HTML file"),
    "out nowhere": (("one", "two", "--out", "no/page.html"), "--out no/page.html: no such folder as no"),
    "damaged": (("damaged",), "metrics.json: expected JSON written by tlkit"),
    "damaged of several": (("one", "damaged"), "metrics.json: expected JSON written by tlkit"),
    "none": ((), "Missing argument 'RUN...'"),
}


@pytest.mark.parametrize(("arguments", "expected"), WRONG.values(), ids=WRONG)
def test_mistakes_are_one_line(tlkit, runs, arguments, expected):
    (runs / "folder").mkdir()
    (runs / "here.html").write_text("mine")
    make_run(runs / "half", pictures=False)
    (runs / "half" / "model.keras").unlink()
    make_run(runs / "damaged", pictures=False)
    (runs / "damaged" / "metrics.json").write_text("{")
    status, out, err = tlkit("report", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert expected in err
    assert (runs / "here.html").read_text() == "mine"
    assert not list(runs.glob("**/report*.html"))
