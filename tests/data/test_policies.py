import pytest

from tlkit.data.augment import _known_ops
from tlkit.data.policies import orientation_risk

DIGITS = [str(digit) for digit in range(10)]
GARMENTS = ["dress", "hat", "pants", "t-shirt"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("light", "'light' flips horizontally, "),
        ("heavy", "'heavy' flips horizontally, "),
        ("alexnet", "'alexnet' flips horizontally, "),
        ("flips", "'flips' flips horizontally and flips vertically, "),
        ("rotations", "'rotations' rotates by up to 30 degrees, "),
        ("dihedral", "flips horizontally and flips vertically and rotates by up to 180 degrees"),
        ("randaugment", "'randaugment' flips horizontally, "),
        ("trivialaugment", "rotates by up to 135 degrees"),
        ([{"op": "RandAugment", "magnitude": 25}], "list of ops rotates by up to 25 degrees, "),
        ([{"op": "Rotate"}], "rotates by up to 90 degrees"),
        ([{"op": "Affine", "rotate": 45}], "rotates by up to 45 degrees"),
        ([{"op": "Affine", "rotate": [-40, 10]}], "rotates by up to 40 degrees"),
        ([{"op": "Rotate", "p": "0.5", "limit": ["-40", "10"]}], "rotates by up to 40 degrees"),  # as texts
        ([{"op": "RandomRotate90"}], "rotates by up to 90 degrees"),
        ([{"op": "VerticalFlip"}], "list of ops flips vertically, "),
        ([{"op": "Flips", "horizontal": 0.0}], "list of ops flips vertically, "),
    ],
)
def test_a_policy_that_turns_digits_is_named(policy, said):
    sentence = orientation_risk(policy, DIGITS)
    assert said in sentence
    assert "\n" not in sentence
    assert "'scaling'" in sentence
    assert orientation_risk(policy, GARMENTS) is None


@pytest.mark.parametrize(
    "policy",
    [
        *("none", "scaling", "colour", "erasing"),
        [],
        [{"op": "Affine", "rotate": [-20, 20]}],
        [{"op": "Affine", "scale": [0.5, 2]}],
        [{"op": "HorizontalFlip", "p": 0.0}],
        [{"op": "HorizontalFlip", "p": "0.0"}],
        [{"op": "RandAugment"}],
        [{"op": "Flips", "horizontal": 0.0, "vertical": 0.0}],
    ],
)
def test_a_policy_that_turns_nothing_is_safe(policy):
    assert orientation_risk(policy, DIGITS) is None


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (DIGITS, "look like digits"),
        (["00", "17", "42"], "look like digits"),
        (["Zero", "one", "Seven"], "look like digits"),
        (["a", "B", "é"], "look like letters"),
        (["7", "b", "x"], "look like letters"),
        (["turn_left", "turn-right", "stop"], "directions (left, right)"),
        (["thumbs up", "thumbs down"], "directions (up, down)"),
        (["North", "East", "West"], "directions (east, west)"),
        (["red arrow", "red dot"], "text (arrow)"),
        (["photo", "handwritten"], "text (handwritten)"),
    ],
)
def test_oriented_classes_are_recognized(classes, said):
    assert said in orientation_risk("light", classes)


@pytest.mark.parametrize(
    "classes",
    [
        GARMENTS,
        ["001", "002", "102"],  # numbered species
        ["1", "2", "car"],
        ["right whale", "blue whale"],
        ["northern cardinal", "western gull", "eastern towhee"],
        ["upset", "downy woodpecker", "narrow"],
        [],
    ],
)
def test_other_classes_are_left_alone(classes):
    assert orientation_risk("dihedral", classes) is None


def test_ops_that_turn_are_those_of_albumentations():
    """A name that the library doesn't have would never be warned of."""
    import albumentations

    from tlkit.data import policies

    known = _known_ops(albumentations)
    named = policies._MIRRORING | policies._UPENDING | set(policies._ROTATING) | {"RandomRotate90"}
    assert named <= set(known)
