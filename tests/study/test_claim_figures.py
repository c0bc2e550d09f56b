"""The figures of the four claims can be read, also where a study is small."""

import pytest

from basiscli.study import claim_figures, claims
from tests.helpers import planted
from tests.helpers.figures import assert_readable

WHOLE = {
    "rotate": planted.rotations(),
    "correlate": planted.correlations(),
    "freeze": planted.frozen(),
    "connectivity": planted.connected(),
}
ONE_LAYER = planted.rotations((0.4,), (0.001,), (0.01,))
ONE_PREFIX = planted.frozen(space=(0.04,), axes=(0.03,))


def renamed(records: list[dict], names: dict[str, str]) -> list[dict]:
    return [record | {"layer": names[record["layer"]]} for record in records]


# Names that do not fit side by side.
DEEP = {f"hidden{k}": f"block{3 * k}/residual/conv1" for k in range(1, 5)}
MANY = [{layer: f"block{k}/{layer}" for layer in planted.LAYERS} for k in range(5)]
CASES = {
    "planted": WHOLE,
    "one layer and one prefix": {**WHOLE, "rotate": ONE_LAYER, "freeze": ONE_PREFIX},
    "long names and many layers": WHOLE
    | {name: renamed(WHOLE[name], DEEP) for name in ("rotate", "freeze")}
    | {"correlate": [record for names in MANY for record in renamed(WHOLE["correlate"], names)]},
}


@pytest.fixture(scope="module")
def cards() -> list:
    return [figure for figure, _ in claim_figures.draw(CASES["one layer and one prefix"]).values()]


@pytest.mark.parametrize("tables", CASES.values(), ids=CASES)
def test_no_text_of_the_sheet_covers_another(tables):
    """And it says what bars and dashes are."""
    figure = claim_figures.together(tables, claims.verdicts(tables))
    assert_readable(figure)
    assert claim_figures.BARS in {text.get_text() for text in figure.texts} | {figure.get_supxlabel()}


def test_no_text_of_a_card_covers_another(cards):
    assert len(cards) == 4
    for figure in cards:
        assert_readable(figure)
        assert all(axis.get_ylabel() for axis in figure.axes)


def test_a_file_brings_its_letters_and_a_page_has_its_own(cards):
    assert "<text" not in claim_figures.svg(cards[0], "C1", variables=False)
    assert "<text" in claim_figures.svg(cards[0], "C1", variables=True)
