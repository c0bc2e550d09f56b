"""Choosing names: exact names, globs, lists, exclusions, and the natural order."""

import pytest

from basiscli.errors import BadInput
from basiscli.names import choose, natural, select

NAMES = ["stem", "layers[0]", "layers0", "block1/conv1", "block2/conv1", "a,b"]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*"], NAMES),
        (["stem,block*"], ["stem", "block1/conv1", "block2/conv1"]),
        (["block*", "stem"], ["stem", "block1/conv1", "block2/conv1"]),
        (["layers[0]"], ["layers[0]"]),
        (["layers[01]"], ["layers0"]),
        (["!block*"], ["stem", "layers[0]", "layers0", "a,b"]),
        (["*conv1,!block2/*"], ["block1/conv1"]),
        (["a,b"], ["a,b"]),
    ],
)
def test_patterns(patterns, chosen):
    assert choose(NAMES, patterns, "x.h5") == chosen


def test_nothing_chosen_names_what_is_there():
    with pytest.raises(BadInput, match=r"x.h5: no layer matches 'conv9'; it has stem"):
        choose(["stem"], ["conv9"], "x.h5")


def test_numbers_sort_by_value():
    assert sorted(["layers.10.b", "layers.2", "layers.2.a", "layers.10.a"], key=natural) == [
        "layers.2", "layers.2.a", "layers.10.a", "layers.10.b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["a,layers[0]"], ["a", "layers[0]"]),
        (["a", "layers[0]"], ["a", "layers[0]"]),
        (["!a*"], ["layers[0]", "layers0"]),
        (["layers*,!layers0"], ["layers[0]"]),
        ([], []),
    ],
)
def test_select_takes_lists_names_and_what_to_leave_out(patterns, chosen):
    assert select(["a", "layers[0]", "layers0", "ab"], patterns, "no {}".format) == chosen


@pytest.mark.parametrize("patterns", [["a,b"], ["a", "b*"], ["layers[9]"]])
def test_select_refuses_what_matches_nothing(patterns):
    with pytest.raises(BadInput, match=r"^no "):
        select(["a", "layers[0]"], patterns, "no {}".format)
