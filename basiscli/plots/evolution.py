"""Figures of networks over their training (`basiscli evolve`)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from basiscli.plots.style import (
    CEILING,
    CONDITIONS,
    FAINT,
    GREY,
    HELD_OUT,
    IN_SAMPLE,
    INK,
    NULL,
    Figure,
    draw_intervals,
    field_values,
    headline,
    label_ends,
    plain,
    spread_labels,
)

# The panels, by field of a record: of every layer, and of the networks as a whole.
LAYERED = {
    "share": "share of the way from null to ceiling",
    "privilege": "privilege (excess kurtosis)",
    "standardised_aligned_held_out": "aligned ceiling",
    "cka": "CKA, debiased",
}
# The lines of the last panels: field, label and colour.
WHOLE = {
    "test accuracy": [("test_accuracy", "", IN_SAMPLE)],
    "loss barrier, test images, nats": [("barrier", "not matched", NULL), ("matched_barrier", "matched", HELD_OUT)],
}
COLOURS = (IN_SAMPLE, CEILING, HELD_OUT, *CONDITIONS[3:], NULL)
MEAN = "all"


def evolution_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli evolve` against the kept epochs, which lie at even distances.

    Share, privilege, aligned ceiling and CKA have a line for each layer, and of many layers one for their mean. Bars
    are 95 % intervals over networks. Accuracy and barriers are of whole networks.
    """
    epochs = list(dict.fromkeys(record["epoch"] for record in records))
    layers = list(dict.fromkeys(record["layer"] for record in records))
    figure = Figure(figsize=(12.4, 6.8), layout="constrained")
    figure.get_layout_engine().set(wspace=0.05, hspace=0.06)
    panels = figure.subplots(2, 3)
    for axis, (field, title) in zip(panels.flat, LAYERED.items(), strict=False):
        _lines(axis, [(field, *look) for look in _looks(layers)], records, epochs)
        axis.set_ylabel(title, fontsize=9)
    for axis, (title, lines) in zip(panels.flat[len(LAYERED) :], WHOLE.items(), strict=True):
        _lines(axis, [(field, MEAN, label, colour) for field, label, colour in lines], records, epochs)
        axis.set_ylabel(title, fontsize=9)
    for axis in panels[1]:
        axis.set_xlabel("epoch", fontsize=9)
    first = records[0]
    headline(
        figure, "When in training does a basis form: a convergent one (share), and a privileged one (privilege)?",
        f"{first['networks']} networks, {first['optimizer']}; bars: 95 % intervals over networks",
    )  # fmt: skip
    spread_labels(figure)
    return figure


def _looks(layers: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return layer, label and colour of each line: of many layers only their mean has a name and a colour."""
    single = [layer for layer in layers if layer != MEAN]
    if len(single) > len(COLOURS):
        return [*((layer, "", FAINT) for layer in single), (MEAN, "mean", INK)]
    return [(layer, layer, colour) for layer, colour in zip(single, COLOURS, strict=False)]


def _lines(
    axis: Axes, lines: Sequence[tuple[str, str, str, str]], records: Sequence[Mapping], epochs: Sequence[int]
) -> None:
    """Draw lines (field, layer, label, colour) of records over epochs; faint lines have no bars."""
    beside = len([colour for *_, colour in lines if colour != FAINT])
    for k, (field, layer, label, colour) in enumerate(lines):
        chosen = [record for record in records if record["layer"] == layer and record[field] is not None]
        if not chosen:
            continue
        at = np.array([epochs.index(record["epoch"]) for record in chosen], dtype=float)
        if colour == FAINT:
            axis.plot(at, field_values(chosen, field), color=colour, linewidth=1)
        else:
            at += 0.06 * (k - (beside - 1) / 2) * (beside == len(lines))
            label_ends(axis, [(draw_intervals(axis, at, chosen, field, {"color": colour, "zorder": 3}), label, colour)])
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xticks(range(len(epochs)), [str(epoch) for epoch in epochs])
    axis.set_xlim(-0.25, len(epochs) - 0.75)
    plain(axis)
