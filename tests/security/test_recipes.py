"""Recipes made to run code, to name files, or to exhaust the machine."""

import os
import sys
import time

import pytest

from tlkit.api import find_head
from tlkit.data.augment import training_view
from tlkit.data.tta import find_views
from tlkit.errors import RecipeError, TlkitError, did_you_mean, printable
from tlkit.recipe import check_recipe, read_recipe
from tlkit.toml import MAX_DOTS, parse_toml

HEAD = '[head]\ncustom = "planted:head"\ninit = "random"\n'
PLANTED = "import pathlib\npathlib.Path('planted').touch()\ndef head(features):\n    return features\n"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A recipe whose head is code that leaves a file behind when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "theirs.toml").write_text(HEAD)
    yield tmp_path
    sys.modules.pop("planted", None)


@pytest.mark.parametrize("command", ["finetune --recipe theirs.toml", "train theirs.toml", "lr-find theirs.toml"])
def test_a_recipe_alone_runs_no_code(planted, tlkit, command):
    status, _, said = tlkit(*command.split(), "--data", "photos")
    assert status == 2
    assert "its head is a function, 'planted:head'" in said
    assert "--head planted:head" in said
    assert not (planted / "planted").exists()


def test_a_search_runs_no_code_of_its_recipe(planted, tlkit):
    status, _, said = tlkit("tune", "--recipe", "theirs.toml", "--data", "photos")
    assert status == 2
    assert "its head is a function" in said


def test_a_run_folder_that_is_resumed_runs_no_code(planted, tlkit):
    run = planted / "run"
    run.mkdir()
    (run / "recipe.toml").write_text(HEAD)
    status, _, said = tlkit("finetune", "--resume", "--out", run, "--data", "photos")
    assert status == 2
    assert "its head is a function" in said
    assert not (planted / "planted").exists()


def test_a_head_that_the_user_names_is_run(planted):
    for given in ({"overrides": ["head.custom=planted:head"]}, {"settings": {"head.custom": "planted:head"}}):
        recipe = read_recipe("theirs.toml", **given)
        assert recipe.head.custom == "planted:head"
    assert find_head(recipe.head.custom)("features") == "features"
    assert (planted / "planted").exists()


def test_another_override_is_not_enough(planted):
    with pytest.raises(RecipeError, match="its head is a function"):
        read_recipe("theirs.toml", ["head.init=zeros"], {"seed": 1})


def test_what_goes_on_names_the_head():
    assert check_recipe({"head": {"custom": "a:b"}}).head.as_option == " --head a:b"
    assert check_recipe({}).head.as_option == ""


DOCUMENTS = {
    "deep lists": "a = " + "[" * 30_000,
    "deep tables": "a = " + "{b=" * 5000,
    "deep but whole": "a = " + "[" * 50 + "]" * 50,
    "long key": "a." * 30_000 + "a = 1",
    "deep keys": "a." * 100 + "a = 1",
    "deep header": "[x" + ".a" * 20_000 + "]\n" + "b = 1",
    "many digits": "a = " + "9" * 5000,
    "hexadecimal": "seed = 0x" + "f" * 5000,
    "65 bits": "seed = 18446744073709551616",
    "large": "# " + "x" * 70_000,
    "no text": "a = '\0'",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_hostile_toml_is_refused_within_ten_seconds(tmp_path, document):
    (tmp_path / "a.toml").write_text(document)
    for read in (read_recipe, find_views):
        began = time.process_time()
        with pytest.raises(RecipeError) as caught:
            read(tmp_path / "a.toml")
        assert time.process_time() - began < 10
        assert len(str(caught.value)) < 1000
        assert "\n" not in str(caught.value)


def test_the_slowest_documents_within_bounds_take_seconds():
    for document in (
        "\n".join(f"k{number}." + "a." * 199 + "a = 1" for number in range(150)),
        "[x" + ".a" * MAX_DOTS + "]\n" + "".join(f"k{number}=1\n" for number in range(7000)),
    ):
        began = time.process_time()
        with pytest.raises(RecipeError, match="nested more than 20 deep"):
            parse_toml(document)
        assert time.process_time() - began < 5


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of Unix")
def test_a_pipe_is_no_recipe(tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    for read in (read_recipe, find_views):
        with pytest.raises(RecipeError):
            read(tmp_path / "a.toml")


@pytest.mark.parametrize("read", [read_recipe, find_views])
@pytest.mark.parametrize("name", ["x" * 300 + ".toml", "a\0b.toml", "no/such.toml"])
def test_names_that_no_file_can_have(read, name):
    with pytest.raises(RecipeError):
        read(name)


@pytest.mark.parametrize(
    "override",
    [
        "data.mixup=inf",
        "training.l2=nan",
        "stages.0.learning_rate=inf",
        "training.checkpoint_seconds=inf",
        "tune.head.dropout={min = 0, max = inf}",
        "stages.0.epochs=9223372036854775807",
        "stages.0.accumulate=1000000",
        "data.views=1000000000",
        "head.hidden=[1000000000]",
        "stages." + "9" * 5000 + ".epochs=1",
        "stages.².epochs=1",
        "a." * 2000 + "b=1",
        "[=1",  # found by a property
        "int=1",
        "x" * 50_000 + "=1",
    ],
)
def test_numbers_and_keys_out_of_bounds(override):
    with pytest.raises(RecipeError) as caught:
        read_recipe("ants_bees", [override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


HOSTILE_OPS = {
    "font": {"op": "TextImage", "font_path": "/etc/passwd"},
    "reference": {"op": "FDA", "reference_images": ["/etc/passwd"]},
    "reader": {"op": "HistogramMatching", "reference_images": ["x"], "read_fn": "os.system"},
    "huge": {"op": "Resize", "height": 10**6, "width": 10**6},
    "scaled up": {"op": "RandomScale", "scale_limit": [500, 500]},
    "splines": {"op": "ThinPlateSpline", "num_control_points": 300},
    "zoom": {"op": "ZoomBlur", "max_factor": [1.5, 1.6], "step_factor": [1e-9, 1e-9]},
    "iterations": {"op": "GlassBlur", "iterations": 10**6},
    "grid": {"op": "GridDistortion", "num_steps": 10**5},
    "infinite": {"op": "PCANoise", "std": float("inf")},
    "digits": {"op": "Blur", "blur_limit": 2**62},
    "no size": {"op": "RandomSquare", "image_size": [32]},  # found by tests/fuzz/augment_ops.py
}


@pytest.mark.parametrize("op", HOSTILE_OPS.values(), ids=HOSTILE_OPS)
def test_ops_that_read_files_or_take_the_machine_are_refused(op):
    with pytest.raises(RecipeError, match=r"`augment\.0`"):
        training_view([op], 32)


def test_a_policy_of_too_many_ops_is_refused():
    with pytest.raises(RecipeError, match="at most 50 ops"):
        training_view([{"op": "HorizontalFlip"}] * 51, 32)


def test_views_of_too_many_tables_are_refused(tmp_path):
    (tmp_path / "views.toml").write_text("[[views]]\n" * 101)
    with pytest.raises(RecipeError, match="at most 100"):
        find_views(tmp_path / "views.toml")


def test_messages_break_no_line_and_move_no_cursor():
    said = str(TlkitError("a\x1b[2Jb\nc\u202ed é 例 👍"))
    assert said == "a\\x1b[2Jb\\nc\\u202ed é 例 👍"
    assert printable("as it is") == "as it is"


def test_near_misses_are_sought_among_a_bounded_number():
    began = time.process_time()
    did_you_mean("name" * 100_000, (f"name{number}" for number in range(10**7)))
    assert time.process_time() - began < 5
