"""A search as a whole: what its trials see, what a kill costs, what fails and what is given up."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import tlkit
from tlkit.api import trials, tuning
from tlkit.api.job import Job
from tlkit.errors import RecipeError, RunError, Stopped, TlkitError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.search.space import SPACES, default_space

RANGES = {"head.dropout": {"min": 0.0, "max": 0.6}, "stages.0.learning_rate": {"min": 1e-4, "max": 1e-1, "log": True}}


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    return photo_folder(tmp_path_factory.mktemp("tune") / "photos", per_class=24)


def make_recipe(**changes):
    """LeNet-5's blocks, frozen at random, under a new head: the search is quick, and there is something to gain."""
    values = {
        "data.image_size": 32,
        "backbone": {"name": "lenet5", "weights": "none"},
        "head.init": "random",
        "stages": [{"unfreeze": 0, "epochs": 4, "learning_rate": 1e-4}],
        "tune": RANGES,
        "evaluation.tta": "none",
    }
    return read_recipe("default", (), values | changes)


def search(photos, out, recipe=None, **settings):
    settings = {"trials": 4, "seeds": 0, "nested": False} | settings
    return tlkit.tune(recipe or make_recipe(), photos, out=out, **settings)


def journal(path):
    return [json.loads(line) for line in (Path(path) / "journal.jsonl").read_text().splitlines()]


def answers(path):
    """What came of each trial, but for the seconds."""
    return {line["told"]: line["answer"] | {"seconds": 0} for line in journal(path) if "told" in line}


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    return search(photos, tmp_path_factory.mktemp("tune") / "whole", seeds=2)


def test_the_best_recipe_is_that_of_the_best_trial(whole):
    trials = whole.result["trials"]
    assert [trial["trial"] for trial in trials] == [0, 1, 2, 3]
    best = max(trials, key=lambda trial: trial["score"])
    assert whole.result["best"] == best["trial"]
    assert best["score"] > whole.result["own_score"]
    recipe = read_recipe(whole.recipe)
    assert recipe.head.dropout == best["settings"]["head.dropout"]
    assert recipe.stages[0].learning_rate == best["settings"]["stages.0.learning_rate"]
    assert recipe.tune == {}


def test_a_trial_is_a_run_folder_that_knows_no_test_image(whole):
    for number in range(4):
        folder = whole.path / "trials" / f"{number:03}"
        with (folder / "splits.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["split"] for row in rows} == {"train", "val"}
        recipe = read_recipe(folder / "recipe.toml")
        assert (recipe.seed, recipe.data.split_seed, recipe.data.view_seed) == (number, 0, 0)
        row = json.loads((folder / "metrics.json").read_text())["val"]
        assert whole.result["trials"][number]["score"] == -row["val_loss"]
        assert not (folder / "checkpoint").exists()


def test_both_settings_are_compared_on_the_test_images_with_several_seeds(whole):
    task = whole.result["comparison"]["tasks"]["label"]
    assert [one["runs"] for one in task["recipes"]] == [["default-0", "default-1"], ["best-0", "best-1"]]
    assert whole.result["comparison"]["split"] == "test"
    assert whole.result["comparison"]["used_for"] == []
    assert whole.result["verdict"].startswith("tuning ")
    assert "on 7 test images, 2 seeds each, p " in whole.result["verdict"]


def test_trials_share_the_feature_pass(photos, tmp_path, monkeypatch):
    from tlkit.training.features import KeptFeatures

    computed, compute = [], KeptFeatures._compute

    def count(self, positions, numbers, threads):
        computed.append(numbers)
        return compute(self, positions, numbers, threads)

    monkeypatch.setattr(KeptFeatures, "_compute", count)
    recipe = make_recipe(backbone={"name": "efficientnet_lite0"})
    passes = []
    for count in (1, 3):
        monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / f"cache of {count}"))
        search(photos, tmp_path / str(count), recipe, trials=count)
        passes.append(len(computed))
        computed.clear()
    assert passes[0] == passes[1] > 0


@pytest.mark.parametrize("epoch", [1, 6])
def test_a_stopped_search_goes_on_where_it_was(photos, whole, tmp_path, monkeypatch, epoch):
    """Stopped within the first or the second trial; no finished one is made again, and the answers are the same."""
    out, seen, heard = tmp_path / "stopped", [], trials._Curve.epoch_done

    def stop(self, row, is_best):
        seen.append(row)
        if len(seen) == epoch:
            raise KeyboardInterrupt
        heard(self, row, is_best)

    monkeypatch.setattr(trials._Curve, "epoch_done", stop)
    with pytest.raises(Stopped, match=f"tlkit tune --resume --out {out}"):
        search(photos, out, seeds=2)
    assert len(answers(out)) == (epoch - 1) // 4
    made = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/metrics.json")}
    monkeypatch.setattr(trials._Curve, "epoch_done", heard)
    again = search(photos, out, seeds=2, resume=True)
    assert answers(out) == answers(whole.path)
    assert again.result["comparison"]["tasks"] == whole.result["comparison"]["tasks"]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_workers_make_the_same_trials(photos, whole, tmp_path):
    """To the last bits but for the number of threads, in whatever order the answers come."""
    found = search(photos, tmp_path / "workers", workers=2)
    for one, other in zip(found.result["trials"], whole.result["trials"], strict=True):
        assert one["settings"] == other["settings"]
        assert one["status"] == "done"
        assert one["score"] == pytest.approx(other["score"], rel=1e-3)


def test_a_finished_search_is_not_done_again(photos, whole, monkeypatch):
    def refuse(*_):
        raise AssertionError("all of it is there")

    monkeypatch.setattr("tlkit.api.job._train", refuse)
    recipe, source, settings = tuning.recorded_settings(whole.path)
    again = tlkit.tune(recipe, source, **settings, out=whole.path, resume=True)
    assert again.result == whole.result


def test_a_trial_that_fails_is_recorded_and_stops_nothing(photos, tmp_path, monkeypatch):
    run_trial = Job.run_trial

    def fail(self):
        if self.path.name == "001":
            raise ZeroDivisionError("as planned")
        return run_trial(self)

    monkeypatch.setattr(Job, "run_trial", fail)
    found = search(photos, tmp_path / "failing")
    assert [trial["status"] for trial in found.result["trials"]] == ["done", "failed", "done", "done"]
    assert found.result["trials"][1]["reason"] == "ZeroDivisionError: as planned"
    assert "as planned" in (tmp_path / "failing" / "trials" / "001" / "error.txt").read_text()


def test_a_search_of_which_every_trial_fails_says_so(photos, tmp_path, monkeypatch):
    run_trial = Job.run_trial

    def fail(self):
        if self.path.name != "own":
            raise ZeroDivisionError("as planned")
        return run_trial(self)

    monkeypatch.setattr(Job, "run_trial", fail)
    with pytest.raises(TlkitError, match=r"no trial came to its end\. The first: ZeroDivisionError: as planned"):
        search(photos, tmp_path / "failing", trials=2)


def test_a_hopeless_trial_is_given_up(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "is_hopeless", lambda known, curve, epochs: len(known) == 1 and len(curve) == 2)
    found = search(photos, tmp_path / "pruned", trials=3)
    trial = found.result["trials"][1]
    assert (trial["status"], trial["reason"], len(trial["curve"])) == ("pruned", "below the median after epoch 2", 2)
    assert found.result["best"] != 1
    assert len((tmp_path / "pruned" / "trials" / "001" / "history.csv").read_text().splitlines()) <= 3


def test_nothing_gained_is_said_and_the_recipe_stays(photos, tmp_path, monkeypatch):
    run_trial = Job.run_trial

    def worsen(self):
        row = run_trial(self)
        return row if self.path.name == "own" else row | {"val_loss": 99.0}

    monkeypatch.setattr(Job, "run_trial", worsen)
    found = search(photos, tmp_path / "worse", trials=2, seeds=2)
    assert found.result["best"] is None
    assert found.result["verdict"].startswith("tuning gained nothing: no trial validated better")
    assert read_recipe(found.recipe).stages == make_recipe().stages
    assert "comparison" not in found.result


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        ({"head.dropuot": [0.1]}, r"`tune.head.dropuot`: 0.1 can't be taken: .*Did you mean 'dropout'"),
        ({"head.dropout": {"min": 0.0, "max": 1.5}}, r"`tune.head.dropout`: 1.5 can't be taken"),
        ({"data.augment": ["lihgt"]}, r"`tune.data.augment`: 'lihgt' can't be taken"),
        ({"stages.0.unfreeze": [0, 9]}, r"`tune.stages.0.unfreeze`: 9 can't be taken"),
        ({"stages.3.epochs": [1]}, r"`tune.stages.3.epochs`: 1 can't be taken"),
    ],
)
def test_impossible_ranges_are_refused_before_anything_is_written(photos, tmp_path, ranges, text):
    with pytest.raises(RecipeError, match=text):
        search(photos, tmp_path / "refused", make_recipe(tune=ranges))
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    "key", ["seed", "backbone.name", "data.split_seed", "loss.weights", "training.monitor", "evaluation.tta"]
)
def test_what_all_trials_share_cannot_be_searched(photos, tmp_path, key):
    with pytest.raises(RecipeError, match=f"a search can't vary `{key}`"):
        search(photos, tmp_path / "refused", make_recipe(tune={key: [1, 2]}))


def test_a_search_does_not_cross_validate(photos, tmp_path):
    with pytest.raises(RecipeError, match=r"`data\.folds`: a search has one validation split"):
        search(photos, tmp_path / "refused", make_recipe(**{"data.folds": 3}))


def test_the_default_space_is_what_means_something_here():
    whole = default_space("full", classes=True, own_head=True, blocks=7)
    assert whole == SPACES["full"]
    numbers = default_space("full", classes=False, own_head=False, blocks=1)
    assert "loss.label_smoothing" not in numbers
    assert not any(key.startswith("head.") for key in numbers)
    assert numbers["stages.0.unfreeze"] == [0, "all"]


@pytest.mark.parametrize("space", ["head", "full"])
def test_every_value_of_the_default_spaces_can_be_taken(photos, tmp_path, space):
    """Also for a backbone of one block; the search itself isn't made."""
    recipe = make_recipe(tune={}, stages="auto", backbone={"name": "nasnet_mobile", "weights": "none"})
    out = tmp_path / "full"
    out.mkdir()
    (out / "in the way").touch()
    with pytest.raises(RunError, match="is not empty"):  # which is looked at after the space
        search(photos, out, recipe, space=space)


def test_hyperband_sets_the_epochs_and_the_best_recipe_has_those_of_its_trial(photos, tmp_path):
    with pytest.raises(RecipeError, match=r"`tune\.stages\.0\.epochs`: Hyperband sets the epochs itself"):
        search(photos, tmp_path / "no", make_recipe(tune={"stages.0.epochs": [1, 2]}), oracle="hyperband")
    found = search(photos, tmp_path / "hyperband", trials=5, oracle="hyperband")
    best = found.result["trials"][found.result["best"]]
    assert best["epochs"] == 2  # half of what a trial that goes all the way has
    assert read_recipe(found.recipe).stages[0].epochs == best["epochs"]


def test_without_test_images_no_verdict_is_given(photos, tmp_path):
    data = tlkit.load_data(photos)
    rows = ["path,label,split"]
    for path, label, split in zip(data.paths, data.labels["label"], data.split, strict=True):
        rows.append(f"{photos / path},{data.tasks['label'].classes[label]},{'val' if split == 'test' else split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    found = search(tmp_path / "labels.csv", tmp_path / "untested", trials=4, seeds=2)
    assert "can't be said: there are no test images" in found.result["verdict"]
    assert not (tmp_path / "untested" / "runs").exists()


def test_the_curve_counts_the_probe(tmp_path):
    """A trial whose probe is the best of all is not hopeless, whatever its epochs are."""
    curve = trials._Curve([[0.5] * 4] * 5, lambda row: row["score"])
    curve.epochs = 4
    curve.probe_fitted({"score": 0.9})
    for _ in range(4):
        curve.epoch_done({"score": 0.1}, False)
    assert curve.best == [0.9] * 4
    curve = trials._Curve([[0.5] * 4] * 5, lambda row: row["score"])
    curve.epochs = 4
    curve.training_resumed(None, [{"score": 0.1}])
    with pytest.raises(trials._Hopeless):
        curve.epoch_done({"score": 0.2}, True)


def test_features_in_memory_are_shared(photos, tmp_path, monkeypatch):
    from tlkit.training.features import KeptFeatures

    computed, compute = [], KeptFeatures._compute
    monkeypatch.setattr(KeptFeatures, "_compute", lambda *args: computed.append(1) or compute(*args))
    recipe = make_recipe(**{"backbone": {"name": "efficientnet_lite0"}, "training.cache": "ram"})
    passes = []
    for count in (1, 3):
        search(photos, tmp_path / str(count), recipe, trials=count)
        passes.append(len(computed))
        computed.clear()
    assert passes[0] == passes[1] > 0


def test_arrays_are_taken_up_again_from_python(tmp_path):
    random = np.random.default_rng(0)
    arrays = random.integers(0, 255, (40, 32, 32, 3)).astype("uint8"), np.arange(40) % 2
    search(arrays, tmp_path / "arrays", trials=1)
    with pytest.raises(RunError, match="the search is on arrays; go on with it from Python"):
        tuning.recorded_settings(tmp_path / "arrays")
    search(arrays, tmp_path / "arrays", trials=1, resume=True)


@pytest.mark.parametrize(
    "span", [{"min": 1, "max": 1}, {"min": 2, "max": 1}, {"min": 0.0, "max": 1.0, "log": True}, [], {"min": 1}]
)
def test_ranges_that_are_none_are_refused(span):
    with pytest.raises(RecipeError, match=r"tune\.head\.dropout"):
        make_recipe(tune={"head.dropout": span})


def test_another_search_in_the_folder_is_refused(photos, whole):
    with pytest.raises(RunError, match="differs in trials, seeds"):
        search(photos, whole.path, trials=9, resume=True)
    with pytest.raises(RunError, match="add --resume to continue it"):
        search(photos, whole.path)
    with pytest.raises(RunError, match="differs in data, recipe"):
        search(photos, whole.path, make_recipe(seed=3), seeds=2, resume=True)


def test_within_a_budget_trials_end_for_good_and_the_best_model_predicts(photos, tmp_path):
    """Whoever takes the search up again makes no further trial, although the clock says something else by then."""
    found = search(photos, tmp_path / "search", trials=None, budget=12, seeds=1)
    lines = journal(found.path)
    decided = [key for line in lines for key in line.get("decided", ())]
    assert len(set(decided)) == len(decided)
    if found.result["best"] is not None:  # something bettered the recipe's own settings, and is compared with them
        decided.remove("seeds")
    assert sorted(decided) == ["over", "own_seconds"]
    assert 0 < len(found.result["trials"]) < tuning.MOST_TRIALS
    assert found.result["budget"]["seconds"] == 12
    trained = tlkit.api.load_run(found.path, unfinished=True)
    [prediction] = trained.predict(np.zeros((1, 32, 32, 3), np.uint8))
    assert prediction.label in ("a", "b")
    (found.path / "tuning.json").unlink()
    recipe, source, settings = tuning.recorded_settings(found.path)
    again = tlkit.tune(recipe, source, **settings, out=found.path, resume=True)
    assert journal(found.path) == lines
    assert {**again.result, "budget": None} == {**found.result, "budget": None}


def test_only_the_best_trial_leaves_a_model_and_it_is_in_the_searchs_folder(whole, photos):
    folders = [path.parent for path in whole.path.glob("**/model.keras") if "runs" not in path.parts]
    assert folders == [whole.path]
    best = max(whole.result["trials"], key=lambda trial: trial["score"])
    assert best["score"] > whole.result["own_score"]
    data = tlkit.load_data(photos, seed=0)
    run = tlkit.api.load_run(whole.path, unfinished=True)
    val = data.indices("val")
    probabilities = run.probabilities(data, val)["label"]
    loss = -np.log(probabilities[np.arange(len(val)), data.labels["label"][val]]).mean()
    assert -loss == pytest.approx(best["score"], abs=1e-4)


def test_a_budget_too_short_for_a_trial_says_so(photos, tmp_path):
    found = search(photos, tmp_path / "search", budget=0.01)
    assert found.result["trials"] == []
    assert found.result["verdict"] == "there was no time for a trial"
    assert read_recipe(found.recipe).tune == {}


@pytest.fixture(scope="module")
def nested(photos, tmp_path_factory):
    return search(photos, tmp_path_factory.mktemp("tune") / "nested", trials=2, nested=True)


def test_nested_every_image_is_predicted_by_a_model_that_was_chosen_without_it(nested, photos):
    """A fold's trials train and validate on the rest; together the folds hold out each image but the test ones once."""
    inner = trials.Division().of(tlkit.load_data(photos, seed=0), 0)
    held_out = []
    for fold in range(5):
        folder = nested.path / "nested" / str(fold)
        found = json.loads((folder / "held_out.json").read_text())["held_out"]
        held_out += found
        away = {inner.paths[i] for i in found}
        for trial in [folder / "trials" / "000", folder / "trials" / "own", folder / "tuned"]:
            rows = list(csv.DictReader((trial / "splits.csv").read_text().splitlines()))
            assert {row["path"] for row in rows if row["split"] == "test"} == away
            assert {row["path"] for row in rows} == set(inner.paths)
    assert sorted(held_out) == list(range(len(inner)))
    assert nested.result["nested"]["n"] == len(inner) < 48


def test_nested_the_features_are_computed_once_for_all_folds(photos, tmp_path, monkeypatch):
    """Each image goes once through the frozen layers per training view, and once for evaluation, whatever the fold."""
    from tlkit.models.chain import Chain

    rows = []
    run = Chain.run

    def counted(self, batch, start, stops):
        rows.append(len(batch) if start == 0 and 0 < stops[-1] < self.end else 0)
        return run(self, batch, start, stops)

    monkeypatch.setattr(Chain, "run", counted)
    recipe = make_recipe(**{"training.cache": "ram", "data.views": 2, "data.batch_size": 8})
    search(photos, tmp_path / "search", recipe, trials=1, nested=True)
    images = len(trials.Division().of(tlkit.load_data(photos, seed=0), 0))
    key = 8  # noise for the key: once for all trials, whose frozen layers are the same
    assert sum(rows) == 3 * images + key


def test_trials_on_one_backbone_are_those_on_a_new_one_each(photos, tmp_path, monkeypatch):
    """What a trial trains in the backbone isn't there for the next, nor does a head depend on what was built before."""
    from tlkit.models.backbones import build_backbone

    weights = tmp_path / "lenet5.weights.h5"
    build_backbone("lenet5", image_size=32).save_weights(weights)
    stages = [{"unfreeze": 1, "epochs": 2, "learning_rate": 1e-2}]
    recipe = make_recipe(backbone={"name": "lenet5", "weights": str(weights)}, stages=stages)
    search(photos, tmp_path / "one", recipe, trials=3)
    monkeypatch.setattr(trials, "_OneBackbone", lambda: build_backbone)
    search(photos, tmp_path / "new", recipe, trials=3)
    assert answers(tmp_path / "one") == answers(tmp_path / "new")
    assert len(answers(tmp_path / "one")) == 3


def test_nested_says_what_tuning_is_worth_and_how_optimistic_validation_is(nested):
    result = nested.result["nested"]
    task = result["tasks"]["label"]
    assert task["difference"]["first"] == task["own"]["accuracy"]
    assert task["difference"]["second"] == task["tuned"]["accuracy"]
    assert "gain" in result["verdict"]
    optimism, low, high = result["loss"]["optimism"]
    assert optimism == pytest.approx(result["loss"]["held_out"] - result["loss"]["chosen_by"])
    assert low <= optimism <= high
    measurable = "validation is optimistic" if low > 0 else "validation is not measurably optimistic"
    assert measurable in result["verdict"]


def test_nested_the_losses_are_those_of_what_is_written(nested, photos):
    """On the images that chose and on those held out: both the plain log loss, whatever weights the tasks have."""
    fold = json.loads((nested.path / "nested" / "2" / "held_out.json").read_text())
    data = trials.Division(2).of(tlkit.load_data(photos, seed=0), 0)
    probabilities = np.array(fold["tuned"]["label"])
    labels = data.labels["label"][data.indices("test")]
    assert fold["losses"][1] == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean(), rel=1e-5)


def test_nested_folds_leave_no_models_and_no_checkpoints(nested):
    assert not list((nested.path / "nested").glob("**/*.keras"))
    assert not list((nested.path / "nested").glob("**/checkpoint"))


def test_nested_a_fold_that_fails_costs_its_figures_and_not_the_search(photos, tmp_path, monkeypatch):
    def failing(*_):
        raise TlkitError("fold 3 has no label")

    monkeypatch.setattr(tuning, "nested_gain", failing)
    lines = Listener()
    lines.note = (said := []).append
    found = search(photos, tmp_path / "search", trials=1, nested=True, listener=lines)
    assert "nested" not in found.result
    assert "no nested cross-validation: fold 3 has no label" in said
    assert (found.path / "tuning.json").is_file()


def test_the_model_of_the_recipes_own_trial_is_there_even_after_a_kill_before_it_was_written(photos, tmp_path):
    class Killed(BaseException):
        pass

    def killed(_):
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trials, "write_model", killed)
        with pytest.raises(Killed):
            search(photos, tmp_path / "search", trials=1)
    assert not (tmp_path / "search" / "model.keras").exists()
    recipe = make_recipe(tune={"stages.0.learning_rate": [1e-9, 2e-9]})  # nothing better than the recipe's own
    with pytest.raises(RunError, match="recipe"):
        search(photos, tmp_path / "search", recipe, trials=1, resume=True)
    search(photos, tmp_path / "search", trials=1, resume=True)
    assert (tmp_path / "search" / "model.keras").exists()


def test_the_recipe_of_a_run_whose_time_was_up_is_searched_as_it_was_planned(photos, tmp_path):
    stages = [{"unfreeze": 0, "epochs": 4, "learning_rate": 1e-3, "stop_after": 2}]
    found = search(photos, tmp_path / "search", make_recipe(stages=stages), trials=2)
    assert [len(trial["curve"]) for trial in found.result["trials"]] == [4, 4]


def test_where_training_stops_is_not_searched(photos, tmp_path):
    with pytest.raises(RecipeError, match="stop_after"):
        search(photos, tmp_path / "search", make_recipe(tune={"stages.0.stop_after": [1, 2]}))


def test_nested_a_fold_that_is_done_is_not_done_again(nested, photos, monkeypatch):
    (nested.path / "tuning.json").unlink()
    (nested.path / "nested" / "3" / "held_out.json").unlink()
    made = []
    run_trial = Job.run_trial

    def counted(job):
        made.append(job.path.relative_to(nested.path).as_posix())
        return run_trial(job)

    monkeypatch.setattr(Job, "run_trial", counted)
    again = search(photos, nested.path, trials=2, nested=True, resume=True)
    assert again.result == nested.result
    assert sorted(made) == ["nested/3/own", "nested/3/tuned"]


def test_few_images_are_nested_unless_they_are_too_few_for_folds(photos, tmp_path):
    job = tlkit.api._make_job(make_recipe(), photos, Listener())
    assert tuning._is_nested(job, None, Listener())
    assert not tuning._is_nested(job, False, Listener())
