"""What fits into a given time: durations, predictions, and the choice among ways of making a model."""

from dataclasses import replace

import pytest

from tlkit.errors import TlkitError
from tlkit.search.budget import (
    EARLY_IMAGES,
    EARLY_MOST,
    EARLY_SECONDS,
    EARLY_SHARE,
    FIRST_SHARE,
    LEAST_EPOCHS,
    MARGIN,
    MOST_TIMES,
    PROBE_IMAGE,
    PROBE_OUTPUT,
    PROBE_SECONDS,
    REPORT_SECONDS,
    Speed,
    Way,
    Work,
    budget_for,
    choose,
    finishing_seconds,
    format_duration,
    guess_step,
    may_fit,
    next_steps,
    parse_duration,
    predict_seconds,
    probe_seconds,
    ways,
    with_early_model,
)

MANY = Work(train=3500, val=750, test=750, batch_size=32)
FEW = Work(train=237, val=52, test=52, batch_size=32)
SPEED = Speed(image_size=224, build=2.0, read=0.001, prefix=0.0, suffix=0.007, step=0.8, first_step=10.0)
HALVES = Speed(image_size=224, build=2.0, read=0.001, prefix=0.005, suffix=0.002, step=0.2, first_step=5.0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1m30s", 90), (" 2m ", 120)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "ten minutes", "30m1h", "-3m", "10 m", "nan", "1e3s", "29s", "0m", "9" * 400 + "h"]
)
def test_what_is_no_duration_or_too_short_is_refused_in_one_line(text):
    with pytest.raises(TlkitError, match="--budget: expected"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42s"), (185, "3m 5s"), (4800, "1h 20m"), (59.7, "1m 0s")])
def test_durations_are_said_as_people_say_them(seconds, text):
    assert format_duration(seconds) == text


def test_a_probe_takes_its_passes_and_what_comes_after():
    """Two views of 237 images, one of 52 that is kept; 52 mirrored, and 52 for testing in two views: 8 ms each."""
    way = Way(image_size=224, views=2, unfreeze=None, epochs=0, tta="flip")
    passes, predictions = (2 * 237 + 52) * 0.008, (52 + 2 * 52) * 0.008
    fitted = PROBE_SECONDS + 2 * 237 * (PROBE_IMAGE + 10 * PROBE_OUTPUT)
    assert finishing_seconds(way, FEW, HALVES) == pytest.approx(REPORT_SECONDS + 2.0 + predictions)
    assert predict_seconds(way, FEW, HALVES) == pytest.approx(
        2.0 + fitted + passes + REPORT_SECONDS + 2.0 + predictions
    )


def first_model_seconds(way, work, speed):
    """Where a way's first model comes, from the building of the net on: 8 ms an image at 224 pixels."""
    if not way.early:
        return probe_seconds(way, work, speed)
    share = work.val / (work.train + work.val)  # of these nothing is kept: they go through the net twice
    an_image = (1 + share) * speed.at(way.image_size).image + PROBE_IMAGE + 10 * PROBE_OUTPUT
    return speed.build + EARLY_SECONDS + way.early * an_image


def test_a_probe_that_comes_late_is_preceded_by_one_of_some_images_which_is_paid_for():
    """Two views of 3,500 images take longer than two fifths of three minutes."""
    way = Way(image_size=224, views=2, unfreeze=None, epochs=0, tta="none")
    assert 10 + probe_seconds(way, MANY, HALVES) > FIRST_SHARE * 180
    early = with_early_model(way, MANY, HALVES, budget=180, spent=10)
    taken = early.seconds - predict_seconds(way, MANY, HALVES)
    assert taken == pytest.approx(first_model_seconds(early, MANY, HALVES) - HALVES.build)
    assert taken <= EARLY_SHARE * 180
    assert early.early == EARLY_IMAGES
    hour = with_early_model(way, MANY, replace(HALVES, suffix=0.2), budget=3600, spent=10)
    assert first_model_seconds(hour, MANY, replace(HALVES, suffix=0.2)) <= HALVES.build + EARLY_MOST


def test_whatever_is_chosen_has_a_model_by_the_middle_of_its_budget():
    for budget in range(60, 1200, 20):
        spent = 0.2 * budget
        found = [with_early_model(way, MANY, HALVES, budget, spent) for way in listed(MANY, HALVES)]
        chosen = found[choose(found, budget - spent)]
        assert spent + first_model_seconds(chosen, MANY, HALVES) <= budget / 2, chosen


def test_an_early_model_that_comes_hardly_sooner_than_the_probe_is_not_made():
    """Of few images, and where starting alone has taken long, it would be the same model twice."""
    for way in listed(FEW, HALVES):
        assert with_early_model(way, FEW, HALVES, budget=60, spent=30) == way


def test_an_early_model_of_hardly_any_images_is_not_made():
    way = Way(image_size=224, views=1, unfreeze=None, epochs=0, tta="none")
    slow = replace(HALVES, suffix=1.0)
    assert with_early_model(way, MANY, slow, budget=60, spent=5.0).early == 0


def test_the_probe_of_many_images_and_classes_takes_what_was_measured():
    """26,214 images: 22 s with 10 classes, 65 s with 100; more images than that are not fitted on."""
    way = Way(image_size=224, views=1, unfreeze=None, epochs=0, tta="none")
    idle = Speed(image_size=224, build=0.0, read=0.0, prefix=0.0, suffix=0.0)
    for images, outputs, seconds in ((26_214, 10, 22), (26_214, 100, 65), (100_000, 100, 65)):
        work = Work(train=images, val=0, test=0, batch_size=32, outputs=outputs)
        assert predict_seconds(way, work, idle) - REPORT_SECONDS == pytest.approx(seconds, rel=0.1)


def test_each_rendering_of_the_test_time_views_is_a_pass():
    """The evaluation view is one of the ten."""
    one, ten = (finishing_seconds(Way(224, 1, None, 0, tta), FEW, HALVES) for tta in ("none", "tencrop"))
    assert ten - one == pytest.approx(9 * (52 + 52) * 0.008)


def test_features_that_are_not_kept_are_computed_in_every_epoch():
    way = Way(image_size=224, views=2, unfreeze=2, epochs=4, tta="none")
    kept, again = (predict_seconds(way, replace(FEW, kept=kept), HALVES) for kept in (True, False))
    epochs, probe, calibration = 4 * (237 + 52) * (0.001 + 0.005), 52 * 0.008, 2 * 52 * (0.008 - 0.002)
    assert again - kept == pytest.approx(epochs + probe + calibration)


def test_a_stage_takes_its_compiling_its_steps_and_a_validation_each_epoch():
    """237 images are eight steps; the 52 for validation go through the upper layers only, which is where they train."""
    probe = Way(image_size=224, views=1, unfreeze=None, epochs=0, tta="none")
    staged = Way(image_size=224, views=1, unfreeze=2, epochs=5, tta="none")
    more = predict_seconds(staged, FEW, HALVES) - predict_seconds(probe, FEW, HALVES)
    assert more == pytest.approx(5.0 + 5 * (8 * 0.2 + 52 * 0.002) + 2 * 52 * 0.002)


def test_where_all_blocks_train_each_epoch_reads_its_images():
    probe = Way(image_size=224, views=1, unfreeze=None, epochs=0, tta="none")
    staged = Way(image_size=224, views=1, unfreeze="all", epochs=3, tta="none")
    more = predict_seconds(staged, MANY, SPEED) - predict_seconds(probe, MANY, SPEED)
    assert more == pytest.approx(10.0 + 3 * (110 * 0.8 + 750 * 0.007 + (3500 + 750) * 0.001) + 2 * 750 * 0.008)


def test_no_size_is_smaller_than_the_net_takes():
    found = ways(MANY, SPEED, MANY.rule_stage(7), views=[2, 1], tta=["flip", "none"], smallest=75)
    assert {way.image_size for way in found} == {224, 160, 128, 96}
    assert {way.image_size for way in listed(MANY, SPEED)} == {224, 160, 128, 96, 64}


def test_half_the_side_takes_a_quarter_of_the_computing_and_as_much_reading():
    half = SPEED.at(112)
    assert (half.suffix, half.step) == (pytest.approx(0.007 / 4), pytest.approx(0.2))
    assert (half.read, half.build, half.first_step) == (0.001, 2.0, 10.0)


def listed(work, speed):
    return ways(work, speed, work.rule_stage(7), views=[2, 1], tta=["flip", "none"])


def test_with_more_time_nothing_worse_is_chosen():
    """From half a minute to half an hour, what is chosen only moves up the list, and takes no more than there is."""
    for work, speed in ((FEW, HALVES), (MANY, SPEED)):
        found = listed(work, speed)
        places = [choose(found, left) for left in range(30, 1800, 10)]
        assert places == sorted(places, reverse=True)
        assert places[-1] == 0
        for left, place in zip(range(30, 1800, 10), places, strict=True):
            assert MARGIN * found[place].seconds <= left or place == len(found) - 1


def test_many_images_get_a_smaller_size_before_they_get_no_stage():
    found = listed(MANY, SPEED)
    chosen = {left: found[choose(found, left)] for left in (40, 90, 250, 1200)}
    assert (chosen[40].unfreeze, chosen[40].views) == (None, 1)
    assert chosen[40].image_size < 224
    assert (chosen[250].unfreeze, chosen[250].image_size < 224) == ("all", True)
    assert (chosen[1200].unfreeze, chosen[1200].image_size) == ("all", 224)
    assert chosen[1200].epochs > LEAST_EPOCHS


def test_few_images_keep_their_size_and_get_no_more_than_three_times_the_epochs_of_the_rules():
    found = listed(FEW, HALVES)
    unfreeze, epochs = FEW.rule_stage(7).unfreeze, FEW.rule_stage(7).epochs
    best = found[choose(found, 1e6)]
    assert (best.image_size, best.unfreeze, best.epochs, best.views) == (224, unfreeze, MOST_TIMES * epochs, 2)
    assert all(way.image_size == 224 for way in found if way.unfreeze is not None)


def test_fewer_than_a_hundred_images_get_the_probe_however_much_time_there_is():
    found = listed(Work(train=60, val=20, test=20, batch_size=32), HALVES)
    assert found[choose(found, 1e6)].unfreeze is None
    assert next_steps(found, choose(found, 1e6), needed=None) == []


def test_what_more_time_allows_needs_more_time_and_is_what_would_be_chosen_then():
    spent, budget = 10, 90
    found = [with_early_model(way, MANY, SPEED, budget, spent) for way in listed(MANY, SPEED)]
    offers = next_steps(found, choose(found, budget - spent), lambda way: budget_for(way, MANY, SPEED, spent))
    assert offers
    for way, needed in offers:
        assert needed > budget
        then = [with_early_model(one, MANY, SPEED, needed + 0.1, spent) for one in listed(MANY, SPEED)]
        assert choose(then, needed + 0.1 - spent) <= found.index(way)


def test_a_stage_that_is_not_timed_is_not_taken_for_free():
    """A plan without its steps timed must not find room for them."""
    untimed = guess_step(replace(SPEED, step=0.0, first_step=0.0), MANY)
    assert untimed.step == pytest.approx(3 * 32 * 0.007)
    assert untimed.first_step > 0


def test_a_stage_is_timed_only_where_it_may_fit():
    assert not may_fit(MANY, SPEED, MANY.rule_stage(7), left=30)
    assert may_fit(MANY, SPEED, MANY.rule_stage(7), left=300)
