"""What holds for any input: a usable answer or a `TlkitError`, and what is written is read back as it was."""

import csv
import io
import re
import tomllib

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tlkit.data.arrays import list_npz
from tlkit.data.decode import check, decode
from tlkit.data.headers import MAX_PIXELS
from tlkit.data.labels import label_texts, read_column
from tlkit.data.listing import list_csv
from tlkit.data.tta import SCALES, find_views
from tlkit.data.walk import leading_out
from tlkit.errors import DataError, RecipeError, TlkitError, printable
from tlkit.recipe import check_recipe, read_recipe
from tlkit.search.budget import LEAST_SECONDS, MOST_SECONDS, parse_duration
from tlkit.tasks import Task
from tlkit.toml import MAX_DEPTH, parse_toml
from tlkit.training.sizes import UNITS, parse_size

# No deadline: machines may be busy. The same examples in every run; the fuzz targets look for others.
quick = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

FORMS = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {}),
    ("GIF", "P", {}),
    ("BMP", "RGB", {}),
    ("TIFF", "RGBA", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
]
pixels = np.random.default_rng(0).integers(0, 256, (19, 23, 4), dtype=np.uint8)


def encoded(form, mode, options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


IMAGES = [encoded(*form) for form in FORMS]


@st.composite
def damaged_images(draw):
    """An image file with some bytes changed, taken out or doubled."""
    data = bytearray(draw(st.sampled_from(IMAGES)))
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data) - 1)), draw(st.integers(1, 8))
        new = draw(st.one_of(st.binary(max_size=8), st.just(bytes(data[place : place + 40]))))
        data[place : place + length] = new
    return bytes(data)


@quick
@given(st.one_of(damaged_images(), st.binary(max_size=200)))
def test_damaged_images_are_decoded_or_refused(data):
    found = check(data)
    if found.problem is None:
        assert 0 < found.width * found.height <= MAX_PIXELS
        image = decode(data)
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    else:
        assert "\n" not in printable(found.problem)


def outcome(function, *arguments):
    """Return what a function returns; or None, if it raises a `TlkitError` of one line."""
    try:
        return function(*arguments)
    except TlkitError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 2000
    return None


# --- tables ---------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)


@quick
@given(st.lists(st.lists(texts, min_size=1, max_size=4), max_size=6), st.sampled_from(["auto", "multilabel"]))
def test_any_table_is_listed_or_refused(tmp_path, rows, kind):
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label"], *rows])
    assert outcome(list_csv, tmp_path / "labels.csv", {"label": kind}) is None  # there are no images here


@quick
@given(st.binary(max_size=300))
def test_any_bytes_are_no_table(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(b"path,label\n" + content)
    with pytest.raises(DataError):
        list_csv(tmp_path / "labels.csv", {"label": "auto"})


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z"), blacklist_characters="|;,"), min_size=1)


@quick
@given(st.lists(names, min_size=1, max_size=20))
def test_classes_are_read_as_they_stand(cells):
    column = read_column("label", cells, range(len(cells)), "single_label")
    assert label_texts(Task("single_label", column.classes), column.values) == cells


@quick
@given(st.lists(st.sets(names.filter(lambda name: name != "-"), max_size=5), min_size=1, max_size=10))
def test_sets_of_labels_are_read_as_they_stand(sets):
    cells = ["|".join(sorted(one)) + "|" if one else "-" for one in sets]
    if not any(sets):
        return
    column = read_column("label", cells, range(len(cells)), "multilabel")
    read = [{name for name, has in zip(column.classes, row, strict=True) if has} for row in column.values]
    assert read == sets


@quick
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_read_as_they_stand(numbers):
    column = read_column("age", [repr(number) for number in numbers], range(len(numbers)), "regression")
    assert column.values.tolist() == numbers


@quick
@given(st.lists(st.sampled_from(["a", "b", "..", ".", "x.png"]), min_size=1, max_size=6))
def test_what_leads_out_is_told_from_what_does_not(tmp_path, parts):
    (tmp_path / "root" / "a" / "b").mkdir(parents=True, exist_ok=True)
    path, root = "/".join(parts), (tmp_path / "root").resolve()
    place = (root / path).resolve()
    assert bool(list(leading_out(root, [path]))) == (place != root and root not in place.parents)


# --- arrays ---------------------------------------------------------------------------------------------------------


@quick
@given(
    st.integers(1, 5),
    st.sampled_from([(3, 4), (3, 4, 1), (3, 4, 3)]),
    st.sampled_from(["u1", "<i4", ">u2", "i8"]),
    st.booleans(),
)
def test_arrays_are_read_as_they_were_written(tmp_path, count, shape, dtype, by_columns):
    images = np.arange(count * np.prod(shape)).reshape(count, *shape) % 256
    images = np.asarray(images, dtype, order="F" if by_columns else "C")
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(count))
    listing = list_npz(tmp_path / "a.npz", {"label": "auto"})
    np.testing.assert_array_equal(listing.images, images)
    assert listing.images.dtype == np.uint8


@quick
@given(st.integers(0, 700), st.binary(min_size=1, max_size=8))
def test_damaged_archives_are_read_or_refused(tmp_path, place, new):
    file = io.BytesIO()
    np.savez(file, images=np.zeros((6, 4, 4), np.uint8), labels=np.arange(6))
    content = bytearray(file.getvalue())
    content[place : place + len(new)] = new
    (tmp_path / "a.npz").write_bytes(content)
    listing = outcome(list_npz, tmp_path / "a.npz", {"label": "auto"})
    assert listing is None or len(listing.paths) == 6


# --- recipes --------------------------------------------------------------------------------------------------------

plain = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts)
trees = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
tables = st.dictionaries(texts, trees, max_size=4)


@quick
@given(tables)
def test_toml_within_bounds_is_read_as_it_was_written(values):
    assert parse_toml(tomli_w.dumps(values)) == values


@quick
@given(st.text(max_size=200))
def test_any_text_is_toml_or_refused(text):
    values = outcome(parse_toml, text)
    assert values is None or values == tomllib.loads(text)


@quick
@given(st.integers(1, 3 * MAX_DEPTH))
def test_depth_has_a_bound(depth):
    document = "a = " + "[" * depth + "]" * depth
    if depth < MAX_DEPTH:
        assert parse_toml(document)
    else:
        with pytest.raises(RecipeError, match="nested"):
            parse_toml(document)


columns = st.from_regex(r"[A-Za-z0-9_.-]{1,9}", fullmatch=True)


@st.composite
def recipes(draw):
    stage = st.fixed_dictionaries(
        {"epochs": st.integers(1, 100), "learning_rate": st.floats(1e-9, 9)},
        optional={
            "unfreeze": st.one_of(st.just("all"), st.integers(0, 20)),
            "schedule": st.sampled_from(["constant", "cosine", "step", "plateau"]),
            "warmup": st.floats(0, 0.9),
        },
    )
    return draw(
        st.fixed_dictionaries(
            {"stages": st.lists(stage, min_size=1, max_size=3)},
            optional={
                "seed": st.integers(0, 2**32 - 1),
                "data": st.fixed_dictionaries({}, optional={"mixup": st.floats(0, 9), "group_by": texts}),
                "tasks": st.dictionaries(
                    st.from_regex(r"[A-Za-z0-9_.-]{1,9}", fullmatch=True), st.just("auto"), min_size=1
                ),
                "tune": st.dictionaries(st.just("head.dropout"), st.lists(st.floats(0, 0.9), min_size=1, max_size=3)),
            },
        )
    )


@quick
@given(recipes())
def test_recipes_are_read_as_they_were_written(tmp_path, values):
    recipe = check_recipe(values)
    (tmp_path / "a.toml").write_text(recipe.to_toml(), "utf-8")
    assert read_recipe(tmp_path / "a.toml") == recipe


keys = st.sampled_from(
    ["seed", "data", "data.views", "stages.0.epochs", "tune", "tasks", "head.hidden", "stages", "x.y"]
)


@quick
@given(keys | texts, st.one_of(texts, trees.map(repr), st.sampled_from(["[]", "{}", "nan", "1e999", "0x" + "f" * 40])))
def test_any_override_is_taken_or_refused(key, value):
    recipe = outcome(read_recipe, "ants_bees", [f"{key}={value}"])
    assert recipe is None or tomllib.loads(recipe.to_toml())


@quick
@given(st.lists(st.dictionaries(st.sampled_from(["scale", "crop", "mirror", "angle", "x"]), plain), max_size=4))
def test_any_views_are_taken_or_refused(tmp_path, views):
    (tmp_path / "views.toml").write_text(tomli_w.dumps({"views": views}), "utf-8")
    found = outcome(find_views, tmp_path / "views.toml")
    assert all(SCALES[0] <= view.scale <= SCALES[1] for view in found or ())


# --- sizes and times ------------------------------------------------------------------------------------------------


@quick
@given(
    st.integers(0, 10**6), st.sampled_from(sorted(UNITS)), st.sampled_from(["", "B", "b"]), st.sampled_from(["", " "])
)
def test_sizes_are_read_as_they_are_said(number, unit, suffix, space):
    assert parse_size(f"{number}{space}{unit}{suffix}") == number * UNITS[unit]


@quick
@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 9999))
def test_times_are_read_as_they_are_said(hours, minutes, seconds):
    total = 3600 * hours + 60 * minutes + seconds
    if LEAST_SECONDS <= total <= MOST_SECONDS:
        assert parse_duration(f"{hours}h{minutes}m{seconds}s") == total


@quick
@given(st.text(st.sampled_from("0123456789.hmsKMGTB "), max_size=30) | st.from_regex(re.compile(r"\d{400,500}[hT]?")))
def test_any_text_is_a_size_or_a_time_or_refused(text):
    for parse in (parse_size, parse_duration):
        found = outcome(parse, text)
        assert found is None or 0 <= found < 2**63
