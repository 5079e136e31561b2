"""The headers of recipes have one form, so that a script can measure their results again."""

import importlib.util
import json
from pathlib import Path

import pytest

from tlkit.recipe import recipe_names, recipe_text

SCRIPT = Path(__file__).parent / "benchmarks" / "recipe_results.py"
HEADER = "# What it is for.\n# Run:     tlkit train x --data DIR   (as it is)\n# Result:  {}\nseed = 0\n# Result:  none"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("recipe_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", recipe_names())
def test_every_header_states_what_can_be_measured_or_that_it_is_published(name, script):
    stated = script.parse_header(recipe_text(name))
    assert stated.command[0] == "tlkit"
    assert name in stated.command or stated.command[1] in ("finetune", "demo", "experiment")
    if not stated.published:
        assert stated.data in script.SOURCES
        assert ("--data" in stated.command) == (script.SOURCES[stated.data] is not None)
        assert 0 < stated.low < stated.value < stated.high < 1
        assert stated.seeds


@pytest.mark.parametrize(
    ("result", "value", "low", "high", "seeds", "digits"),
    [
        ("hymenoptera, seed 3: validation 0.941 [0.892, 0.969] of 153, it chose", 0.941, 0.892, 0.969, [3], 3),
        ("MNIST, seed 0: test error 0.70 % [0.55, 0.88] of 10,000; 7 minutes", 0.993, 0.9912, 0.9945, [0], 4),
        ("bccd, seed 0: test mean average precision 0.8 [0.7, 0.9] of 72", 0.8, 0.7, 0.9, [0], 1),
        # Wilson's interval of 50 of 100, from a table
        ("MNIST, seeds 0 to 2: test 50 % (49 to 51) of 100", 0.5, 0.4038, 0.5962, [0, 1, 2], 2),
        ("a, 7 of b, seed 0: test 0.5\n#          [0.4, 0.6] of 9", 0.5, 0.4, 0.6, [0], 1),
    ],
)
def test_figures_are_read_in_their_units(result, value, low, high, seeds, digits, script):
    stated = script.parse_header(HEADER.format(result))
    assert (stated.value, stated.low, stated.high) == pytest.approx((value, low, high), abs=5e-5)
    assert list(stated.seeds) == seeds
    assert stated.digits == digits
    assert stated.command == ["tlkit", "train", "x", "--data", "DIR"]


@pytest.mark.parametrize(
    "result",
    [
        "test 0.5 [0.4, 0.6] of 9",
        "MNIST, seed 0: 0.5 [0.4, 0.6] of 9",
        "MNIST, seed 0: test 0.5 of 9",
        "MNIST, seed 0: test 0.5 [0.4, 0.6]",
        "Published: 8 % error",
    ],
)
def test_another_form_is_refused(result, script):
    with pytest.raises(ValueError, match="expected DATA, seed N"):
        script.parse_header(HEADER.format(result))


def test_a_header_without_a_command_is_refused(script):
    with pytest.raises(ValueError, match="expected the lines"):
        script.parse_header("# Result:  Published: 8 % error, not rerun.\n")


@pytest.mark.parametrize(
    ("measured", "said"),
    [(0.9412, "agrees, to the digit"), (0.93, "agrees"), (0.891, "DISAGREES"), (0.97, "DISAGREES")],
)
def test_a_figure_is_held_against_the_stated_interval(measured, said, script):
    stated = script.parse_header(HEADER.format("hymenoptera, seed 0: test 0.941 [0.892, 0.969] of 153"))
    assert script.verdict(stated, measured) == said


def test_a_result_over_seeds_is_the_mean_of_their_runs(script, tmp_path, monkeypatch):
    asked = []

    def run(command, source, options):
        asked.append((command[1], source, options))
        out, accuracy = Path(options[3]), 0.9 + 0.01 * int(options[1])
        out.mkdir(exist_ok=True)
        (out / "recipe.toml").touch()
        tasks = {"size": {"mae": 3.0}, "label": {"accuracy": accuracy}}
        (out / "metrics.json").write_text(json.dumps({"val": {"tasks": tasks}}))

    monkeypatch.setattr(script, "run", run)
    (tmp_path / "hymenoptera").mkdir()
    stated = script.parse_header(HEADER.format("hymenoptera, seeds 0 to 2: validation 0.91 (0.90 to 0.92) of 153"))
    (tmp_path / "work").mkdir()
    for _ in range(2):
        assert script.measure("x/y", stated, tmp_path, tmp_path / "work") == pytest.approx(0.91)
    assert asked[2] == ("train", tmp_path / "hymenoptera", ["--seed", "2", "--out", str(tmp_path / "work" / "x-y-2")])
    assert all(options[-1] == "--resume" for _, _, options in asked[3:])


def test_data_that_are_missing_are_named(script, tmp_path):
    with pytest.raises(script.click.ClickException, match="--data-dir"):
        script.find_source("MNIST", tmp_path, tmp_path)
