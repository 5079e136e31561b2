"""`tlkit nets`: the list, and the chart of accuracy against operations."""

import json

import keras
import pytest
from PIL import Image

from tlkit.api import inspecting
from tlkit.catalog import BACKBONES, BUILDABLE, NETS
from tlkit.catalog.published import KERAS, PUBLISHED, YEARS


def test_the_list_names_every_net(tlkit):
    status, out, _ = tlkit("nets")
    assert status == 0
    assert all(name in out for name in NETS)
    _, out, _ = tlkit("nets", "--json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == list(NETS)
    lenet = next(row for row in rows if row["name"] == "lenet5")
    assert (lenet["year"], lenet["image_size"], lenet["parameters"], lenet["blocks"]) == (1998, 32, 61_706, 3)


@pytest.mark.parametrize("net", NETS.values(), ids=lambda net: net.name)
def test_every_paper_has_its_year(net):
    assert 1980 < YEARS[net.paper] < 2030
    if "arxiv.org" in net.paper:
        assert YEARS[net.paper] == 2000 + int(net.paper.rpartition("/")[2][:2])


def test_the_chart_is_a_picture_with_its_table(tlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = tlkit("nets", "--chart")
    assert status == 0, err
    assert out.splitlines()[-1] == "chart: nets.png"
    assert all(row.net in out and row.source in out for row in PUBLISHED)
    with Image.open("nets.png") as picture:
        assert picture.size[0] > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100
    _, out, err = tlkit("nets", "--chart", "other.png", "--json")
    assert [row["net"] for row in json.loads(out)] == [row.net for row in PUBLISHED]
    assert err.splitlines()[-1] == "chart: other.png"


@pytest.mark.parametrize(
    ("file", "said"),
    [("mine.png", "exists already"), ("mine.jpg", "such as mine.png"), ("gone/x.png", "no such folder")],
)
def test_a_chart_that_cannot_be_written_is_one_line(file, said, tlkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.png").write_text("keep me")
    status, out, err = tlkit("nets", "--chart", file)
    assert (status, out) == (2, "")
    assert said in err
    assert (tmp_path / "mine.png").read_text() == "keep me"


def test_published_accuracies_have_their_sources():
    assert len({row.net for row in PUBLISHED}) == len(PUBLISHED) > 20
    for row in PUBLISHED:
        assert 0.5 < row.top1 < 0.9
        assert row.source.startswith("https://")
        assert row.net in BUILDABLE
        assert row.crop == BUILDABLE[row.net].image_size
        if row.source == KERAS:
            assert row.top1 == BACKBONES[row.net].top1


def _case(row):
    return pytest.param(row, id=row.net, marks=[pytest.mark.slow] * (row.parameters > 10_000_000))


@pytest.mark.parametrize("row", [_case(row) for row in PUBLISHED])
def test_published_costs_are_the_computed_ones(row):
    table = inspecting.inspect(row.net)
    assert (row.parameters, row.macs) == (table.parameters, table.macs)
    if row.net in NETS:
        assert row.parameters == NETS[row.net].parameters
    keras.backend.clear_session()
