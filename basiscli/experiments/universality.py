"""Units that all networks share, and cycles of partners, layer by layer, as records (docs/privilege.md)."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basiscli.analysis import nulls
from basiscli.analysis.passes import LayerMoments, Reading, layer_moments
from basiscli.analysis.universality import FALSE_DISCOVERIES, UnitScores, cycles, universality
from basiscli.errors import BadInput
from basiscli.files import activations
from basiscli.files.networks import is_network
from basiscli.files.source import Source
from basiscli.files.targets import require_new
from basiscli.names import EVERY
from basiscli.notes import log


@dataclass(frozen=True)
class UnitsRequest:
    """Draws of the rotated null, the seed of halves and draws, and the rows of a convolution.

    rate: of false discoveries among the units that are called universal.
    """

    draws: int = 100
    seed: int = 0
    positions: str | int = "all"
    rate: float = FALSE_DISCOVERIES


def units_of_files(
    paths: Sequence[str],
    request: UnitsRequest,
    *,
    layers: Sequence[str] = EVERY,
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
    channels: str | None = None,
    ids: str | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> Iterator[dict]:
    """Yield a record a file, layer and unit: its partners in the other files, and whether it is universal.

    The files are opened as `activations.open_all` says. `plot` shows, for the first file, which must be a network, the
    images that excite the most and the least universal units most. Raises BadInput as `correlate_files` does.
    """
    opened = activations.open_all(paths, layers, split, tap, samples, dataset, channels, ids, without_diverged=True)
    if plot:
        require_new(plot, force, paths)
        if not is_network(opened[0].path):
            raise BadInput(f"{opened[0].path}: no network that runs on images, so `plot` has no images to show")
    drawn: dict[str, UnitScores] = {}

    def records(layer: LayerMoments, spread: Callable) -> Iterator[dict]:
        for scores in universality(layer, request.draws, request.seed, spread):
            if scores.network == 0:
                drawn[layer.layer] = scores
            yield from _unit_records(opened, layer, scores, request.rate)

    yield from _by_layer(opened, request, records)
    if plot and drawn:
        from basiscli.experiments.exciting import draw_units

        draw_units(plot, opened[0], drawn, split, dataset)


def cycles_of_files(
    paths: Sequence[str],
    request: UnitsRequest,
    *,
    layers: Sequence[str] = EVERY,
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
    channels: str | None = None,
    ids: str | None = None,
) -> Iterator[dict]:
    """Yield a record a layer: how often partners agree over triples of files, its interval and its rotated null.

    The files are opened as `activations.open_all` says. Raises BadInput as `correlate_files` does.
    """
    opened = activations.open_all(paths, layers, split, tap, samples, dataset, channels, ids, without_diverged=True)

    def records(layer: LayerMoments, spread: Callable) -> Iterator[dict]:
        if len(layer.networks) < 3:
            raise BadInput(f"layer {layer.layer}: {len(layer.networks)} files have it, and cycles need three")
        closed = cycles(layer, request.draws, request.seed, spread)
        null = float(closed.draws.mean())
        value = closed.estimate.value
        yield {
            "layer": layer.layer,
            "networks": len(layer.networks),
            "triples": closed.triples,
            "samples": opened[layer.networks[0]].samples[layer.layer],
            **closed.estimate.fields("cycles", 1.0),
            "null": null,
            "null_deviation": float(closed.draws.std(ddof=1)),
            "excess": None if value is None else value - null,
            "beaten": None if value is None else float((closed.draws < value).mean()),
            "positions": layer.compared.positions,
        }

    yield from _by_layer(opened, request, records)


def _by_layer(
    opened: Sequence[Source], request: UnitsRequest, records: Callable[[LayerMoments, Callable], Iterator[dict]]
) -> Iterator[dict]:
    """Yield the records of every layer; layers that fail are left out, and raise BadInput at the end."""
    for note in dict.fromkeys(note for source in opened for note in source.notes):
        log.warning(note)
    failed: dict[str, BadInput] = {}
    width = max(units for source in opened for units in source.layers.values())
    with nulls.workers(width) as spread:
        # The networks of a unit's score are all needed at once, so they are one block.
        reading = Reading(request.seed, full=True, positions=request.positions, memory=sys.maxsize)
        for layer in layer_moments(opened, reading, failed=failed.setdefault):
            try:
                yield from records(layer, spread)
            except BadInput as error:
                failed[layer.layer] = error
    if failed:
        raise BadInput("; ".join(map(str, failed.values())))


def _unit_records(opened: Sequence, layer: LayerMoments, scores: UnitScores, rate: float) -> Iterator[dict]:
    universal = scores.universal(rate)
    closest = scores.correlations.argmax(axis=0)
    for unit, nearest in enumerate(closest):
        yield {
            "path": opened[scores.network].path,
            "layer": layer.layer,
            "unit": unit,
            "dead": bool(scores.dead[unit]),
            "universality": scores.universality[unit],
            "null": scores.null[unit],
            "excess": scores.excess[unit],
            "beaten": scores.beaten[unit],
            "p": scores.p[unit],
            "q": scores.q[unit],
            "universal": bool(universal[unit]),
            "partner_path": opened[scores.others[nearest]].path,
            "partner": int(scores.partners[nearest, unit]),
            "correlation": scores.correlations[nearest, unit],
            "partners": scores.partners[:, unit].tolist(),
            "stability": float(scores.stable[:, unit].mean()),
            "rate": rate,
            "samples": opened[scores.network].samples[layer.layer],
            "positions": layer.compared.positions,
        }


def unit_sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield a line of words for each layer of the records of `units_of_files`."""
    for layer in dict.fromkeys(record["layer"] for record in records):
        units = [record for record in records if record["layer"] == layer]
        found = sum(record["universal"] for record in units)
        u, null, stable = (
            float(np.mean([unit[name] for unit in units])) for name in ("universality", "null", "stability")
        )
        yield (
            f"{layer}: {found} of {len(units)} units universal, false discoveries {100 * units[0]['rate']:g} %; mean "
            f"universality {u:.2f}, rotated null {null:.2f}; both halves of the samples choose the same partner in "
            f"{100 * stable:.0f} %"
        )


def cycle_sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield a line of words for each layer of the records of `cycles_of_files`."""
    for record in records:
        low, high = record["cycles_low"], record["cycles_high"]
        interval = "" if low is None else f" ({100 * low:.0f} to {100 * high:.0f} %)"
        yield (
            f"{record['layer']}: partners agree in {100 * record['cycles']:.0f} % of cycles{interval}, of rotated "
            f"networks in {100 * record['null']:.0f} %"
        )
