"""How privileged the axes of one representation are: kurtosis and sparseness of its units beside rotated axes.

docs/metrics.md has the definitions. Rotated axes, sums and blocks are in `powers`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from basiscli.analysis import checks, chunks
from basiscli.analysis.correlate import inverse_root
from basiscli.analysis.nulls import redundancy
from basiscli.analysis.powers import Look, PowerSums, look, rotation
from basiscli.device import placement
from basiscli.device.threads import side_by_side
from basiscli.errors import BadInput

STANDARDISED, RAW, WHITENED = "standardised", "raw", "whitened"
# The units of all draws of the second moments: each draw costs two products of U³, and of many units is precise alone.
SECOND_UNITS = 2048
# A direction with less of a unit's variance is noise of float32, and is not whitened.
SMALLEST = 1e-5
# A variance below this part of the mean square is a rounding error.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Space:
    """The units of a space beside its rotated axes; NaN for constant units.

    kurtosis, sparseness: (U,). rotated_kurtosis, rotated_sparseness: (draws, axes).
    """

    kurtosis: np.ndarray
    sparseness: np.ndarray
    rotated_kurtosis: np.ndarray
    rotated_sparseness: np.ndarray


@dataclass(frozen=True)
class LayerPrivilege:
    """The privilege of one layer of one network.

    spaces: by name: STANDARDISED, RAW and, if requested, WHITENED. second_moment: 1 - T / (mean T of rotated axes), as
    in `nulls.privileges`; None if fewer than two units vary. positions: in words, as in `pairs.LayerMoments`.
    """

    layer: str
    units: int
    dead: int
    rows: int
    positions: str
    spaces: Mapping[str, Space]
    second_moment: float | None

    @property
    def fields(self) -> dict[str, float | None]:
        """Kurtosis and sparseness, of units and of rotated axes, by their names in a record."""
        fields: dict[str, float | None] = {}
        for name, space in self.spaces.items():
            end = ending(name)
            fields[f"kurtosis{end}"] = _mean(space.kurtosis)
            fields[f"rotated_kurtosis{end}"] = _mean(space.rotated_kurtosis)
            fields[f"sparseness{end}"] = _mean(space.sparseness)
            fields[f"rotated_sparseness{end}"] = _mean(space.rotated_sparseness)
        return fields

    @property
    def scores(self) -> dict[str, float | None]:
        """The privileges by their names in a record; each is 0 for axes that are like any others of the space."""
        fields: dict[str, float | None] = {}
        for name, space in self.spaces.items():
            fields[f"privilege{ending(name)}"] = _mean(space.kurtosis) - _mean(space.rotated_kurtosis)
            sparseness = _mean(space.sparseness) - _mean(space.rotated_sparseness)
            fields[f"sparseness_privilege{ending(name)}"] = sparseness
        return fields | {"second_moment_privilege": self.second_moment}


def ending(space: str) -> str:
    """Return the end of a field's name that says which space it is about; the standardised one has none."""
    return "" if space == STANDARDISED else f"_{space}"


def layer_privileges(
    source,
    draws: int = 10,
    seed: int = 0,
    positions: str | int = "all",
    whiten: bool = False,
    failed: Callable[[str, BadInput], object] | None = None,
) -> Iterator[LayerPrivilege]:
    """Yield the privilege of every layer of a source, from one pass over it; with `whiten`, from two.

    Stored activations are read a layer at a time, computed ones all at once. seed: of the draws and of the positions.
    failed(layer, reason): called for each layer without a result; without it the first reason is raised: a layer that
    is constant, holds values that are not finite, or has too few rows to whiten.
    """
    for layers in _together(source):
        with side_by_side() as spread:
            origins = look(source, layers, positions, seed)
            sums = {layer: PowerSums(origin, draws, seed, spread=spread) for layer, origin in origins.items()}
            shapes = _add_all(source, sums, positions, seed)
            for layer in layers:
                try:
                    _check(sums[layer], checks.where(source, layer), whiten)
                except BadInput as error:
                    if failed is None:
                        raise
                    failed(layer, error)
                    del sums[layer]
            white = {layer: _whitened(of_layer, spread) for layer, of_layer in sums.items()} if whiten else {}
            if white:
                _add_all(source, white, positions, seed)
        for layer, of_layer in sums.items():
            described = chunks.describe_positions(shapes[layer], positions)
            yield _result(layer, described, of_layer, white.get(layer))


def _together(source) -> list[list[str]]:
    """Return the layers that are read in one pass: each alone if it is stored, else all with the same samples."""
    if source.stored:
        return [[layer] for layer in source.layers]
    groups: dict[int, list[str]] = {}
    for layer in source.layers:
        groups.setdefault(source.samples[layer], []).append(layer)
    return list(groups.values())


def _add_all(source, sums: Mapping[str, PowerSums], positions: str | int, seed: int) -> dict[str, tuple[int, ...]]:
    """Read a source once, and return the positions' shape of each layer."""
    shapes = {}
    for chunk in chunks.ahead(chunks.of_source(source, list(sums))):
        for layer, of_layer in sums.items():
            array = chunk[layer]
            shapes[layer] = array.shape[1:-1]
            of_layer.add(chunks.take_positions(array, positions, seed))
    for of_layer in sums.values():
        of_layer.finish()
    return shapes


def _check(sums: PowerSums, place: str, whiten: bool) -> None:
    """Raise BadInput for a layer that has no privilege, with its place."""
    if sums.not_finite:
        raise BadInput(checks.told_not_finite(place, sums.not_finite))
    if not all(np.isfinite(table).all() for table in (sums.own, sums.rotated, sums.raw_rotated, sums.products)):
        raise BadInput(f"{place}: activations so large that their powers overflow; scale them and record again")
    live = int(np.count_nonzero(_variances(sums.own, sums.rows)))
    if not live:
        raise BadInput(
            f"{place}: all {sums.units} units are constant on these inputs: leave the layer out, or show other inputs"
        )
    if whiten and sums.rows <= live:
        raise BadInput(
            f"{place}: {sums.rows} rows of {live} units that vary: `whiten` needs more rows than units; show more "
            "inputs, or go without"
        )


def _whitened(sums: PowerSums, spread: Callable) -> PowerSums:
    """Return empty sums of the whitened units: (x - mean) / deviation · R^(-½), R the correlations of units (ZCA-cor).

    R^(-½) is the symmetric root, so each whitened unit stays near its own. Directions without variance stay out.
    """
    covariance = _covariance(sums)
    inverse = inverse_root(covariance.diagonal())
    values, vectors = np.linalg.eigh(covariance * inverse * inverse[:, None])
    kept = values > SMALLEST
    root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    shift = placement.to_host(sums.look.shift)
    mean = sums.own[0] / sums.rows / sums.look.scale
    origin = Look(placement.to_device((shift + mean).astype(shift.dtype)), sums.look.scale)
    whitening = placement.to_device((root * inverse[:, None]).astype(np.float32))
    return PowerSums(origin, sums.draws, sums.seed, whitening, spread)


def _result(layer: str, positions: str, sums: PowerSums, white: PowerSums | None) -> LayerPrivilege:
    live = _variances(sums.own, sums.rows) > 0
    spaces = {
        STANDARDISED: _space(sums.own, sums.rotated, sums.rows, live),
        RAW: _space(sums.raw_own, sums.raw_rotated, sums.rows, live, sums.raw_offset, sums.raw_offsets),
    }
    if white is not None:
        spaces[WHITENED] = _space(white.own, white.rotated, white.rows, live)
    quietness = sums.look.scale / sums.look.scale.min()
    second = _second_moment(_covariance(sums) / quietness / quietness[:, None], sums.draws, sums.seed)
    dead = int(np.count_nonzero(~live))
    return LayerPrivilege(layer, sums.units, dead, sums.rows, positions, spaces, second)


def _space(own: np.ndarray, rotated: np.ndarray, rows: int, live: np.ndarray, *offsets: np.ndarray) -> Space:
    """Return a space from sums (5, U) of its units and (draws, 5, A) of its axes; offsets as in `PowerSums`."""
    turned = rotated.swapaxes(0, 1)
    of_units, of_axes = offsets or (np.zeros(()), np.zeros(()))
    kurtosis, sparseness = _kurtosis(own, rows), _sparseness(own, rows, of_units)
    return Space(
        np.where(live, kurtosis, np.nan),
        np.where(live, sparseness, np.nan),
        _kurtosis(turned, rows),
        _sparseness(turned, rows, of_axes),
    )


def _variances(sums: np.ndarray, rows: int) -> np.ndarray:
    """Return the variance from sums of powers (5, ...), 0 where it is only rounding."""
    squares = sums[1] / rows
    variance = squares - (sums[0] / rows) ** 2
    return np.where(variance > ROUNDING * squares, variance, 0)


def _kurtosis(sums: np.ndarray, rows: int) -> np.ndarray:
    """Return the excess kurtosis m₄ / m₂² - 3, m about the mean, from sums of powers (5, ...)."""
    mean, second, third, fourth = sums[:4] / rows
    m4 = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    with np.errstate(divide="ignore", invalid="ignore"):
        return m4 / _variances(sums, rows) ** 2 - 3


def _sparseness(sums: np.ndarray, rows: int, offset: np.ndarray) -> np.ndarray:
    """Return 1 - (mean |y|)² / mean y² of y = x + offset, from the sums of powers of x and Σ |y|."""
    squares = sums[1] / rows + 2 * offset * sums[0] / rows + offset**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - (sums[4] / rows) ** 2 / squares


def _covariance(sums: PowerSums) -> np.ndarray:
    """Return the covariance of the shifted and scaled units, (U, U); rows and columns of constant units are 0."""
    mean = sums.own[0] / sums.rows
    live = _variances(sums.own, sums.rows) > 0
    return (sums.products / sums.rows - np.outer(mean, mean)) * live * live[:, None]


def _second_moment(covariance: np.ndarray, draws: int, seed: int) -> float | None:
    """Return 1 - T / (mean T of draws), T the root mean square of r_ij over pairs of units that vary."""
    live = np.flatnonzero(covariance.diagonal() > 0)
    if len(live) < 2:
        return None
    s = (covariance[np.ix_(live, live)] / covariance.diagonal().max()).astype(np.float32)
    turns = (rotation(len(live), seed, draw) for draw in range(min(draws, -(-SECOND_UNITS // len(live)))))
    usual = float(np.mean([redundancy(q.T @ s @ q) for q in turns]))
    return 1 - redundancy(s) / usual if usual > 0 else None


def _mean(values: np.ndarray) -> float:
    """Return the mean over the units that vary."""
    return float(np.nanmean(values))
