"""The figures of the four claims can be read, also where a study is small."""

import pytest
from matplotlib.colors import to_hex

from basiscli.plots.style import GREY
from basiscli.study import claim_figures, claims
from tests.helpers import planted
from tests.helpers.figures import assert_readable, drawn_texts

WHOLE = {
    "rotate": planted.rotations(),
    "correlate": planted.correlations(),
    "freeze": planted.frozen(),
    "connectivity": planted.connected(),
}
ONE_LAYER = planted.rotations((0.4,), (0.001,), (0.01,))
ONE_PREFIX = planted.frozen(space=(0.04,), axes=(0.03,))
CASES = {
    "planted": WHOLE,
    "one layer and one prefix": {**WHOLE, "rotate": ONE_LAYER, "freeze": ONE_PREFIX},
    "all at zero": {**WHOLE, "freeze": planted.frozen(space=(0.0, 0.0), axes=(0.0, 0.0), between=0.0)},
}


@pytest.mark.parametrize("tables", CASES.values(), ids=CASES)
def test_no_text_covers_another(tables):
    figures = [figure for figure, _ in claim_figures.draw(tables).values()]
    assert len(figures) == 4
    for figure in (*figures, claim_figures.together(tables, claims.verdicts(tables))):
        assert_readable(figure)
        assert all(axis.get_ylabel() for axis in figure.axes)


def test_the_sheet_says_what_bars_and_dashes_are():
    drawn = drawn_texts(claim_figures.together(WHOLE, claims.verdicts(WHOLE)))
    (words,) = [text for text in drawn if text.get_text() == claim_figures.BARS]
    assert to_hex(words.get_color()) == GREY


def test_a_file_brings_its_letters_and_a_page_has_its_own():
    (figure, _), *_ = claim_figures.draw(WHOLE).values()
    assert "<text" not in claim_figures.svg(figure, "C1", variables=False)
    assert "<text" in claim_figures.svg(figure, "C1", variables=True)
