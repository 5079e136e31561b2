"""Strategies of hypothesis that damage what is sound: bytes of a file, parts of a JSON document."""

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def changed(draw, value):
    """Draw `value` with one part of it, at any depth, replaced or left out."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()):
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: draw(changed(value[key]))}
    return draw(VALUES)


@st.composite
def damaged(draw, contents):
    """Draw one of `contents` with some of its bytes set, cut out or put in."""
    data = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        new = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7])))
        keep = draw(st.sampled_from(["set", "insert", "cut"]))
        data[at : at + (0 if keep == "insert" else len(new))] = b"" if keep == "cut" else new
        data = data or bytearray(b"\0")
    return bytes(data)
