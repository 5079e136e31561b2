"""What is kept, and where: saved passes against bytes."""

import pytest

from tlkit.training.cache import ENTRY_BYTES, memory_room, plan_cache

ROOMY = {"disk": 10**12, "ram": 10**11}
COUNTS = {"num_train": 1000, "num_val": 100, "num_test": 50}
HEAD, BLOCKS = 8, 5  # positions: after the pooling, and two blocks earlier
ROWS = {HEAD: 5_000, BLOCKS: 88_000}


def plan(mode="auto", stages=((HEAD, 20), (BLOCKS, 8)), views=1, room=ROOMY, anyway=None):
    firsts = [sum(epochs for _, epochs in stages[:number]) for number in range(len(stages))]
    shown = [
        (position, [number if views is None else number % views for number in range(first, first + epochs)])
        for first, (position, epochs) in zip(firsts, stages, strict=True)
    ]
    kept = {"keep_training": views is not None, "anyway": anyway}
    return plan_cache(mode, shown, row_bytes=ROWS.__getitem__, room=room, **kept, **COUNTS)


def test_the_disk_is_chosen_where_all_fits_it():
    chosen = plan()
    assert (chosen.mode, chosen.training, chosen.evaluation) == ("disk", {HEAD, BLOCKS}, {HEAD, BLOCKS})
    # Training and validation images in both stages, and the test images where the run cuts deepest.
    assert chosen.bytes == (1000 + 100) * 5_000 + (1000 + 100 + 50) * 88_000 + 6 * ENTRY_BYTES
    # Of 20 and 8 epochs all but the first: its pass fills the second stage's cut, too.
    assert chosen.saved == (19 + 8) * 1100
    assert chosen.summary == (
        "features: kept on disk (106.7 MB), so that the frozen layers run on 1,100 image views instead of 30,800"
    )


def test_memory_is_chosen_where_it_saves_more_than_the_disk():
    assert plan(room={"disk": 10**6, "ram": 10**10}).mode == "ram"


def test_what_does_not_fit_is_computed_every_epoch():
    chosen = plan("disk", room={"disk": 6 * 10**6, "ram": 0})
    assert (chosen.training, chosen.evaluation) == ({HEAD}, {HEAD})
    nothing = plan(room={"disk": 100_000, "ram": 400_000})
    assert (nothing.mode, nothing.training, nothing.evaluation) == ("off", frozenset(), frozenset())
    assert nothing.summary == (
        "features: computed anew every epoch; room for 100.0 KB on disk, 400.0 KB in memory, needed at least 508.2 KB"
    )


def test_fresh_views_are_not_worth_keeping_but_the_validation_images_are():
    chosen = plan(views=None)
    assert (chosen.training, chosen.evaluation) == (frozenset(), {HEAD, BLOCKS})
    assert chosen.saved == (19 + 8) * 100


@pytest.mark.parametrize("mode", ["auto", "disk", "ram"])
def test_views_that_are_seen_once_are_not_worth_keeping(mode):
    """Whoever chose the place, or as a resumed run's recipe names it: it keeps what the run kept."""
    assert plan(mode, stages=[(HEAD, 4)], views=4).training == frozenset()


def test_what_later_runs_need_is_kept_even_if_seen_once():
    assert plan(stages=[(HEAD, 1)]).training == frozenset()
    assert plan(stages=[(HEAD, 1)], anyway=HEAD).training == {HEAD}
    assert plan(stages=[(HEAD, 1)], anyway=HEAD, room={"disk": 10**6, "ram": 10**6}).training == frozenset()


def test_a_stage_sees_nothing_of_a_cut_below_which_another_has_trained():
    between = plan(stages=[(HEAD, 2), (BLOCKS, 1), (HEAD, 2)])
    assert between.saved == (1 + 1 + 1) * 1100
    assert plan(stages=[(HEAD, 2), (HEAD, 2)]).saved == 3 * 1100


def test_views_are_counted_over_all_stages():
    """Five epochs that begin at the fourth show views 0 and 1 of two, however the first stage ended."""
    chosen = plan(stages=[(HEAD, 3), (BLOCKS, 5)], views=2)
    assert chosen.saved == (3 + 5 - 2) * 1000 + (3 + 5 - 1) * 100


def test_a_view_that_a_later_stage_shows_once_is_filled_in_the_pass_of_an_earlier_one():
    alone = plan(stages=[(BLOCKS, 3)], views=4)
    assert alone.training == frozenset()
    after = plan(stages=[(HEAD, 5), (BLOCKS, 3)], views=4)
    assert after.training == {HEAD, BLOCKS}
    assert after.saved == (5 + 3 - 4) * 1000 + (5 + 3 - 1) * 100


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "off"}, "features: computed anew every epoch (--cache off)"),
        ({"stages": [(0, 10)]}, "features: none to keep, no layer is frozen"),
    ],
)
def test_nothing_is_kept_and_the_line_says_why(settings, reason):
    chosen = plan(**settings)
    assert (chosen.mode, chosen.training, chosen.evaluation, chosen.summary) == (
        "off",
        frozenset(),
        frozenset(),
        reason,
    )


def test_memory_room_is_a_part_of_the_machines():
    assert 10**8 < memory_room() < 10**14
