"""Heat maps of every layer of one network with every layer of another."""

from collections.abc import Mapping, Sequence

import numpy as np

from basiscli.plots.style import GREY, Figure, diverging

# Cells are labelled up to this number of layers on a side.
LABELLED = 12


def across_figure(records: Sequence[Mapping], fields: Mapping[str, str]) -> Figure:
    """Draw a heat map for each field: layers of the first file are rows, those of the second columns.

    records: with layer_a, layer_b, a, b and the fields; a pair without a value is left white. fields: titles by name.
    """
    rows, columns = (list(dict.fromkeys(record[side] for record in records)) for side in ("layer_a", "layer_b"))
    figure = Figure(
        figsize=(1.6 + len(fields) * (1.2 + 0.5 * len(columns)), 1.8 + 0.45 * len(rows)), layout="constrained"
    )
    for axis, (field, title) in zip(figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True):
        table = np.full((len(rows), len(columns)), np.nan)
        for record in records:
            value = record[field]
            table[rows.index(record["layer_a"]), columns.index(record["layer_b"])] = np.nan if value is None else value
        limit = max(0.1, float(np.nanmax(np.abs(table), initial=0)))
        image = axis.imshow(table, cmap=diverging(), vmin=-limit, vmax=limit, aspect="auto")
        axis.set_title(title, fontsize=9, loc="left", color=GREY)
        axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlabel(records[0]["b"], fontsize=8, color=GREY)
        axis.set_ylabel(records[0]["a"], fontsize=8, color=GREY)
        axis.tick_params(labelsize=8, colors=GREY, length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        if max(table.shape) <= LABELLED:
            for (i, j), value in np.ndenumerate(table):
                if np.isfinite(value):
                    colour = "white" if abs(value) > 0.7 * limit else "black"
                    axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    return figure
