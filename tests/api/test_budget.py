"""A run within a given time: what it plans, what it leaves behind whenever it ends, and that it repeats."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from doomed import DOOMED, assert_same_bits

from tlkit.api import _make_job, budgeting, finetune_recipe, load_run
from tlkit.api.budgeting import Budget
from tlkit.api.speed import measure
from tlkit.errors import RecipeError, RunError, Stopped
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.recipe_keys import Stage
from tlkit.search.budget import Speed, Work
from tlkit.tasks import Task

SMALL = {"data.image_size": 32, "data.batch_size": 16, "backbone.weights": "none"}


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    """Enough photos for a stage to be worth it."""
    return photo_folder(tmp_path_factory.mktemp("budget") / "photos", per_class=80, size=32)


def run_within(photos, out, seconds=300, **settings):
    return finetune_recipe(read_recipe("default", (), SMALL | settings), photos, out=out, budget=Budget(seconds))


def begin_with_a_few(patch):
    """Let the probe of all images come too late for any budget, and the early model be of forty."""
    for name, value in (("FIRST_SHARE", 0.0), ("EARLY_IMAGES", 40), ("EARLY_SECONDS", 0.0)):
        patch.setattr(f"tlkit.search.budget.{name}", value)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """A run that fits a first model to a few images before the probe of all."""
    with pytest.MonkeyPatch.context() as patch:
        begin_with_a_few(patch)
        return run_within(photos, tmp_path_factory.mktemp("budget") / "whole").path


def read(path, name):
    return json.loads((path / name).read_text())


def repeat(run, photos, out):
    return finetune_recipe(read_recipe(run / "recipe.toml"), photos, out=out).path


def test_the_plan_says_what_was_measured_weighed_and_chosen(whole):
    plan, recipe = read(whole, "plan.json"), read_recipe(whole / "recipe.toml")
    chosen = plan["ways"][plan["chosen"]]
    assert plan["budget_seconds"] == 300
    assert chosen["seconds"] < 300
    assert (recipe.data.image_size, recipe.data.views) == (chosen["image_size"], chosen["views"])
    assert [(stage.unfreeze, stage.epochs) for stage in recipe.stages] == [(chosen["unfreeze"], chosen["epochs"])]
    assert chosen["unfreeze"] == 2
    assert chosen["early"] == 40
    assert all(plan["speed"][key] > 0 for key in ("build", "read", "prefix", "suffix", "step", "first_step"))
    assert 0 < plan["outcome"]["used_seconds"] < 300
    assert plan["outcome"]["cut_short"] is None


def test_the_audit_is_in_the_run_folder(whole):
    assert read(whole, "data.json")["audit"]["not_checked"]


def test_its_recipe_repeats_it_to_the_bit(whole, photos, tmp_path):
    assert_same_bits(whole, repeat(whole, photos, tmp_path / "again"))


def test_a_training_whose_time_is_up_ends_there_and_its_recipe_repeats_it(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(budgeting, "RESERVE", 1e6)
    run = run_within(photos, tmp_path / "run").path
    assert [stage.stop_after for stage in read_recipe(run / "recipe.toml").stages] == [0]
    assert read(run, "plan.json")["outcome"]["cut_short"] == 0
    assert_same_bits(run, repeat(run, photos, tmp_path / "again"))


@pytest.mark.slow
def test_killed_in_the_middle_it_predicts_and_follows_its_plan_when_it_goes_on(photos, tmp_path):
    out = tmp_path / "run"
    settings = [f"--set={key}={value}" for key, value in SMALL.items() if key != "backbone.weights"]
    command = ["finetune", "--data", photos, "--out", out, "--weights", "none", "--budget", "5m", *settings]
    killed = subprocess.run([sys.executable, "-c", DOOMED, "30", *map(str, command)], capture_output=True, check=False)
    assert killed.returncode == -9
    with pytest.raises(RunError, match="not complete"):
        load_run(out)
    run = load_run(out, unfinished=True)
    assert not run.complete
    [prediction] = run.predict(np.zeros((1, 32, 32, 3), np.uint8))
    assert prediction.label in ("a", "b")
    plan = read(out, "plan.json")
    resumed = subprocess.run(
        [sys.executable, "-m", "tlkit", "finetune", "--resume", "--out", str(out)], capture_output=True, check=True
    )
    assert b"more time" in resumed.stderr
    ended = read(out, "plan.json")
    assert ended.pop("outcome")["used_seconds"] is None
    assert ended == plan
    assert_same_bits(out, repeat(out, photos, tmp_path / "again"))


class Impatient(Listener):
    """Ends the run as soon as the probe of all images is fitted, before it is written."""

    def probe_fitted(self, row):
        raise KeyboardInterrupt


def test_where_the_probe_comes_late_there_is_a_model_before_it(photos, tmp_path, monkeypatch):
    begin_with_a_few(monkeypatch)
    out, recipe = tmp_path / "run", read_recipe("default", (), SMALL)
    with pytest.raises(Stopped):
        finetune_recipe(recipe, photos, out=out, budget=Budget(300), listener=Impatient())
    [prediction] = load_run(out, unfinished=True).predict(np.zeros((1, 32, 32, 3), np.uint8))
    assert prediction.label in ("a", "b")


def test_a_recipe_that_says_how_the_net_is_trained_is_only_ended_in_time(photos, tmp_path):
    stages = [{"unfreeze": 0, "epochs": 2, "learning_rate": 1e-3}]
    run = run_within(photos, tmp_path / "run", **{"stages": stages, "evaluation.tta": "none"}).path
    assert [(stage.unfreeze, stage.epochs) for stage in read_recipe(run / "recipe.toml").stages] == [(0, 2)]
    assert read(run, "plan.json")["ways"] == []


def test_folds_are_refused(photos, tmp_path):
    with pytest.raises(RecipeError, match="--budget"):
        run_within(photos, tmp_path / "run", **{"data.folds": 3})
    assert not (tmp_path / "run").exists()


STAGED = {"budget_seconds": 60, "more_time": [{"budget_seconds": 185.2, "allows": "two blocks for 8 epochs"}]}
TWO = [(3, "never"), (2, "never")]


@pytest.mark.parametrize(
    ("stages", "trained", "best", "said"),
    [
        ([], [], (-1, 0), "not known; a budget of about 3m 5s would allow two blocks for 8 epochs"),
        ([(3, "never")], [3], (0, 2), "best in the last epoch"),
        ([(3, "never")], [3], (0, 0), "best in epoch 1 of 3"),
        ([(30, "never")], [4], (0, 0), "best in epoch 1 of 4"),  # ended by its patience
        (TWO, [3, 2], (1, 0), "best in epoch 4 of 5"),
        ([(3, "never")], [3], (-1, 0), "gained nothing over the probe"),
        ([(3, 0)], [0], (-1, 0), "cut short in stage 0"),
        ([(24, 1)], [1], (-1, 0), "cut short in stage 0"),
        ([(3, "never"), (2, 0)], [3, 0], (0, 2), "cut short in stage 1"),
    ],
)
def test_what_more_time_would_buy_is_said_from_what_happened(stages, trained, best, said):
    stages = [Stage(epochs=epochs, stop_after=after, learning_rate=1e-3) for epochs, after in stages]
    history = [{"stage": number, "epoch": epoch} for number, epochs in enumerate(trained) for epoch in range(epochs)]
    row = {"stage": best[0], "epoch": best[1]}
    assert said in budgeting.describe_outcome(STAGED, stages, row, history)["more_time"]


def test_a_ranking_takes_time_only_where_a_second_net_can_be_looked_at_and_trained(photos):
    """A hundred images through two nets in a fifth of the time; and what the rules do must fit besides."""
    job = _make_job(read_recipe("default", (), SMALL), photos, Listener())
    work = budgeting._work(job)
    quick = Speed(image_size=32, build=1.0, read=0.0, prefix=0.01, suffix=0.01, step=0.1, first_step=1.0)
    looking = 3 * (1.0 + (work.train + work.val) * 0.02)
    assert budgeting._is_worth_ranking(job, Budget(5 * looking + 60), work, quick)
    assert not budgeting._is_worth_ranking(job, Budget(5 * looking - 1), work, quick)
    assert not budgeting._is_worth_ranking(job, Budget(5 * looking + 60), work, replace(quick, step=100.0))


def test_nothing_more_is_promised_where_nothing_was_left_out():
    row = {"stage": -1, "epoch": 0}
    assert budgeting.describe_outcome({"more_time": []}, [], row, [])["more_time"] == "nothing was left out"


@pytest.mark.parametrize(
    "head",
    [
        {"hidden": [8]},
        *(pytest.param(head, marks=pytest.mark.slow) for head in ({"logits": "cosine"}, {"init": "random"})),
    ],
)
def test_a_head_that_no_probe_is_put_into_is_trained_as_the_rules_say(photos, tmp_path, head):
    run = run_within(photos, tmp_path / "run", **{"head": head, "evaluation.tta": "none"}).path
    assert [stage.unfreeze for stage in read_recipe(run / "recipe.toml").stages] == [0, 2]
    assert read(run, "plan.json")["ways"] == []


def test_what_the_recipe_fixes_stays(photos):
    job = _make_job(
        read_recipe("default", (), SMALL | {"data.views": 4, "evaluation.tta": "tencrop"}), photos, Listener()
    )
    speed = Speed(image_size=32, build=1.0, read=0.001, prefix=0.008, suffix=0.002, step=0.1, first_step=1.0)
    found = budgeting._ways(job, budgeting._work(job), speed)
    assert {(way.image_size, way.views, way.tta) for way in found} == {(32, 4, "tencrop")}


@pytest.mark.parametrize("unfreeze", [None, 2, "all"])
def test_whatever_the_rules_unfreeze_is_measured(photos, monkeypatch, unfreeze):
    """From a thousand images on that is all blocks, and no layer stays frozen."""
    job = _make_job(read_recipe("default", (), SMALL), photos, Listener())
    stages = [] if unfreeze is None else [Stage(unfreeze=unfreeze, epochs=3, learning_rate=1e-4)]
    monkeypatch.setattr("tlkit.training.rules.choose_stages", lambda *_, **__: stages)
    speed = measure(job, budgeting._work(job), left=1e6)
    assert (speed.prefix == 0) == (unfreeze == "all")
    assert (speed.step > 0) == (unfreeze is not None)
    assert speed.suffix > 0


def test_the_best_backbone_that_leaves_time_to_train_it_is_taken(monkeypatch):
    """Of three, the best would take too long; the second best is measured anew and taken."""
    speeds = {"efficientnet_lite0": 0.01, "efficientnet_lite1": 0.02, "resnet50": 10.0}
    order = ["resnet50", "efficientnet_lite1", "efficientnet_lite0"]
    places = [SimpleNamespace(suitability=SimpleNamespace(backbone=name, image_seconds=speeds[name])) for name in order]
    ranking = SimpleNamespace(places=places, describe=lambda: {"backbones": order})
    monkeypatch.setattr("tlkit.api.ranking.rank_within", lambda *_: ranking)
    speed = Speed(image_size=224, build=1.0, read=0.001, prefix=0.008, suffix=0.002, step=0.1, first_step=1.0)
    measured = []
    monkeypatch.setattr(budgeting, "measure", lambda job, *_: measured.append(job.recipe.backbone.name) or speed)

    @dataclass(frozen=True)
    class Stub:
        recipe: object
        data: object
        ends: tuple
        listener: Listener

    data = SimpleNamespace(tasks={"label": Task("single_label", ("a", "b"))}, indices=lambda split: range(100))
    job = Stub(read_recipe("default"), data, ("b",) * 7, Listener())
    work = Work(train=500, val=100, test=100, batch_size=32)
    chosen, _, described = budgeting._choose_backbone(job, Budget(300), work, speed)
    assert chosen.recipe.backbone.name == "efficientnet_lite1"
    assert chosen == replace(job, recipe=chosen.recipe, ends=chosen.ends)
    assert measured == ["efficientnet_lite1"]
    assert described == {"backbones": order}
