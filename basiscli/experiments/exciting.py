"""The images that excite units of a network most, as a figure."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from basiscli.analysis import chunks
from basiscli.analysis.universality import UnitScores
from basiscli.device import placement
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import load
from basiscli.files.source import Source

# Units at each end of a layer, and images of a unit.
UNITS, IMAGES = 6, 9


def draw_units(
    plot: Path, source: Source, scores: Mapping[str, UnitScores], split: str | None, dataset: str | None
) -> None:
    """Draw the most and the least universal units of each layer of a network, with the images that excite them most."""
    from basiscli.plots.style import save
    from basiscli.plots.units import Row, units_figure

    loaded = load(source.path)
    images = getattr(dataset_of(loaded, dataset), (split or "test").partition("-")[0]).images
    chosen = {}
    for layer, of_layer in scores.items():
        live = np.flatnonzero(~of_layer.dead)
        order = live[np.argsort(-of_layer.universality[live], kind="stable")]
        chosen[layer] = order[:UNITS], order[::-1][:UNITS]
    best = exciting(source, {layer: np.concatenate(ends) for layer, ends in chosen.items()}, IMAGES)
    rows = []
    for layer, (most, least) in chosen.items():
        ends = np.split(best[layer], [len(most)])
        for name, units, samples in zip(("most", "least"), (most, least), ends, strict=True):
            shown = [images[of_unit // source.copies] for of_unit in samples]
            universality = scores[layer].universality[units].tolist()
            rows.append(Row(f"{layer}\n{name} universal", units.tolist(), universality, shown))
    save(units_figure(rows, source.path), plot)


def exciting(source: Source, units: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return the samples (units, count) on which each of some units of each layer is most active, the best first.

    A unit of a convolution counts with its most active position.
    """
    best = {layer: np.empty((len(of_layer), 0)) for layer, of_layer in units.items()}
    where = {layer: np.empty((len(of_layer), 0), int) for layer, of_layer in units.items()}
    first = 0
    for chunk in chunks.of_source(source, list(units)):
        samples = len(next(iter(chunk.values())))
        for layer, of_layer in units.items():
            table = placement.to_host(chunk[layer])[..., of_layer]
            peaks = table.reshape(samples, -1, len(of_layer)).max(axis=1).T
            numbers = np.broadcast_to(np.arange(first, first + samples), peaks.shape)
            values = np.concatenate([best[layer], peaks], axis=1)
            order = np.argsort(-values, axis=1, kind="stable")[:, :count]
            best[layer] = np.take_along_axis(values, order, axis=1)
            where[layer] = np.take_along_axis(np.concatenate([where[layer], numbers], axis=1), order, axis=1)
        first += samples
    return where
