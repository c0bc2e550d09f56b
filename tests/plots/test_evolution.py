"""Figures of `evolve` and `compare`: what is drawn, and that it can be read."""

import json

import numpy as np

from basiscli.plots.comparison import comparison_figure
from basiscli.plots.evolution import evolution_figure
from basiscli.study import comparison
from tests.helpers import planted
from tests.helpers.figures import assert_explains_itself, assert_readable


def test_layers_over_epochs_have_lines_of_their_own():
    figure = evolution_figure(planted.evolved({0: 0.0, 1: 0.2, 10: 0.3}))
    assert_readable(figure)
    assert_explains_itself(figure, "When in training", "5 networks, sgd", "95 % intervals over networks")
    share = figure.axes[0]
    assert [label.get_text() for label in share.get_xticklabels()] == ["0", "1", "10"]
    lines = [line.get_ydata() for line in share.lines if len(line.get_ydata()) == 3]
    np.testing.assert_allclose(lines[:2], [[0, 0.2, 0.3]] * 2, atol=1e-9)
    assert {text.get_text() for text in share.texts} == {"hidden1", "hidden2"}


def test_many_layers_are_faint_beside_their_mean():
    records = planted.evolved({0: 0.0, 1: 0.2}, layers=[f"block{k}/sum" for k in range(9)])
    figure = evolution_figure(records)
    assert_readable(figure)
    assert {text.get_text() for text in figure.axes[0].texts} == {"mean"}


def test_cells_and_contrasts_are_rows(tmp_path):
    steps = comparison.steps_of({"optimizer": ["sgd", "adamw"], "activation": ["relu", "tanh"]}, [], {})
    (tmp_path / "records").mkdir()
    for k, step in enumerate(steps):
        lines = planted.pair_records({"hidden1": 0.1 * k, "hidden2": 0.1 * k})
        lines = [dict.fromkeys(lines[0]) | {"networks": 0, "diverged": 5}] if k == 3 else lines
        (tmp_path / step.records).write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = comparison_figure(list(comparison.compare(tmp_path, steps)))
    assert_readable(figure)
    assert_explains_itself(figure, "What the basis depends on", "5 networks a cell", "paired by seed")
    cells, contrasts = ([label.get_text() for label in axis.get_yticklabels()] for axis in figure.axes[::3])
    assert cells == ["sgd relu", "sgd tanh", "adamw relu"]
    assert contrasts == ["adamw - sgd", "adamw - sgd (relu)", "tanh - relu", "tanh - relu (sgd)"]
