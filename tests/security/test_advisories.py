"""Each published advisory on Keras, with a file crafted after it: refused in one line, and nothing happened."""

import resource
from pathlib import Path

import hostile
import keras
import pytest

import tlkit
from tlkit.errors import WeightsError
from tlkit.models.reader import read_model
from tlkit.models.weights import load_arrays, read_arrays

HARMLESS = ("legacy.h5",)  # its arrays are read, its architecture isn't
MEGABYTES = 200  # that refusing a file may take


def read(path):
    """Read a file as tlkit does, by its name."""
    if path.suffix == ".keras":
        return read_model(path)
    image = keras.Input((4,), name="image")
    model = keras.Model(image, keras.layers.Dense(3, name="dense")(image))
    load_arrays(model, read_arrays(path), path)
    return model


@pytest.mark.parametrize("case", hostile.HOSTILE, ids=lambda case: case.name)
def test_a_crafted_file_does_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile.lay_secrets()
    path = tmp_path / "in" / case.name
    path.parent.mkdir()
    path.write_bytes(case.content())
    before, peak = sorted(tmp_path.rglob("*")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if case.name in HARMLESS:
        read(path)
    else:
        with pytest.raises(WeightsError) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000
    assert sorted(tmp_path.rglob("*")) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEGABYTES * 1024


@pytest.mark.parametrize("advisory", hostile.ELSEWHERE)
def test_what_the_other_advisories_are_about_is_never_called(advisory):
    assert "get_file" in hostile.ELSEWHERE[advisory]
    sources = Path(tlkit.__file__).parent.rglob("*.py")
    assert not [source for source in sources if "get_file(" in source.read_text("utf-8")]


def test_the_policy_has_a_line_for_every_advisory():
    policy = (Path(__file__).parents[2] / ".github" / "SECURITY.md").read_text("utf-8")
    for advisory in {case.advisory for case in hostile.HOSTILE} | hostile.ELSEWHERE.keys() | set(hostile.UNKNOWN):
        assert advisory in policy
