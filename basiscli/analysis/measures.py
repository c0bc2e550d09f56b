"""Two arrays in, a result out: every analysis of activations (samples, ..., units), for arrays instead of files.

Arrays are read and converted in chunks, so that an HDF5 data set is never held whole. Errors name the parameter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from basiscli.analysis import nulls
from basiscli.analysis.assess import NULLS, Assessment, CorrelationRequest, assess_layers, without_arrays
from basiscli.analysis.correlate import correlation
from basiscli.analysis.moments import Moments, merge
from basiscli.analysis.passes import Reading, layer_moments
from basiscli.analysis.similarity import SIMILARITIES, cka_debiased
from basiscli.data.axes import CHANNELS, FIRST, LAST, told
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.notes import log

ZERO, DROP = DEAD = ("zero", "drop")
# An array is the only layer of its source.
LAYER = ""


class Rows(Protocol):
    """An array that can be read in pieces: an HDF5 data set, a tensor, a memory map."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


Activations = ArrayLike | Rows


@dataclass(frozen=True)
class ArraySource:
    """An array as a source of activations (see `analysis.pairs`); `path` is the name of the parameter that gave it.

    first: whether axis 1 holds the units, and not the last axis. groups: (samples,), ids of original images; None where
    every sample is an image of its own.
    """

    path: str
    values: Rows
    first: bool = False
    groups: np.ndarray | None = None
    copies: int = 1
    stored: bool = True
    held: int = 0

    @property
    def samples(self) -> dict[str, int]:
        """The length of the first axis, by layer."""
        return {LAYER: self.values.shape[0]}

    @property
    def units(self) -> int:
        """The length of the axis of units."""
        return self.values.shape[1 if self.first else -1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The lengths of the axes between samples and units."""
        return self.values.shape[2:] if self.first else self.values.shape[1:-1]

    @property
    def layers(self) -> dict[str, int]:
        """The units of the only layer."""
        return {LAYER: self.units}

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield activations (n, ..., units), float32 or float64, n <= size samples at a time."""
        for start in range(0, self.samples[LAYER], size):
            yield self.read(layers, start, start + size)

    def read(self, layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Return the activations (n, ..., units) of samples start to stop, float32 or float64."""
        rows = on_host(self.values[start:stop])
        return {LAYER: placement.to_device(floats(np.moveaxis(rows, 1, -1) if self.first else rows))}


def on_host(piece: Any) -> np.ndarray:
    """Return rows as a numpy array. They may be of numpy, PyTorch (with or without gradients), cupy, or array-like."""
    if hasattr(piece, "detach"):
        piece = piece.detach().cpu()
        piece = piece.float() if "bfloat16" in str(piece.dtype) else piece
    return np.asarray(placement.to_host(piece))


def floats(values: np.ndarray) -> np.ndarray:
    """Return values as float32, or as float64 where float32 could not hold them."""
    small = values.dtype.itemsize <= (4 if values.dtype.kind in "fV" else 2)
    return values.astype(np.float32 if small else np.float64, copy=False)


def source(values: Activations, name: str) -> ArraySource:
    """Return an array as a source. Raises BadInput, with its name, if it holds no activations."""
    if isinstance(values, str | bytes | PathLike):
        raise BadInput(f"{name} is {values!r}: give an array; for one in an HDF5 file, h5py.File(path)[name]")
    if not hasattr(values, "shape"):
        try:
            values = np.asarray(values)
        except (ValueError, TypeError) as error:
            raise BadInput(f"{name} is no array (samples, ..., units): {error}") from error
    rows: Rows = values  # type: ignore[assignment]
    shape = tuple(rows.shape)
    if len(shape) < 2:
        raise BadInput(f"{name} has the shape {shape}: give activations (samples, ..., units)")
    if 0 in shape:
        raise BadInput(f"{name} is empty: its shape is {shape}")
    if shape[0] < 2:
        raise BadInput(f"{name} has 1 sample: correlations need two or more")
    dtype = on_host(rows[:1]).dtype
    if dtype.kind not in "fiub" and dtype.name != "bfloat16":
        raise BadInput(f"{name} holds {dtype}, not real numbers")
    return ArraySource(name, rows)


def sources(
    arrays: Sequence[Activations], names: Sequence[str], groups: ArrayLike | None = None, channels: str | None = None
) -> list[ArraySource]:
    """Return arrays of the same samples as sources; groups (samples,): ids of original images.

    channels: FIRST for arrays (samples, units, ...), LAST, or None to let the shapes decide; a note says how they were
    read where another reading is possible. Raises BadInput if arrays differ in samples or positions, and for groups
    that do not fit.
    """
    if channels not in (None, *CHANNELS):
        raise BadInput(f"`channels` is {channels!r}: choose {' or '.join(map(repr, CHANNELS))} or None")
    opened = _with_axes([source(values, name) for values, name in zip(arrays, names, strict=True)], channels)
    first = opened[0]
    for other in opened[1:]:
        if other.samples != first.samples:
            raise BadInput(
                f"{other.path} has {other.samples[LAYER]} samples, {first.path} has {first.samples[LAYER]}: "
                "give activations of the same inputs in the same order"
            )
        if other.positions != first.positions:
            raise BadInput(
                f"{other.path} has the shape {tuple(other.values.shape)}, {first.path} {tuple(first.values.shape)}: "
                "only the axis of units may differ: the last one, or axis 1 with `channels` first"
            )
    if groups is None:
        return opened
    ids = _ids(groups, first.samples[LAYER])
    return [replace(opened_source, groups=ids) for opened_source in opened]


def _with_axes(opened: Sequence[ArraySource], channels: str | None) -> list[ArraySource]:
    """Return sources that know their axis of units, with a note where another reading is possible."""
    if channels:
        return [replace(one, first=channels == FIRST and len(one.values.shape) > 2) for one in opened]
    several = {told(one.values.shape) for one in opened} - {None}
    common = several.pop() if len(several) == 1 else None
    read = []
    for one in opened:
        shape = tuple(one.values.shape)
        axis = (told(shape) or common) if len(shape) > 3 else LAST
        if axis == FIRST:
            log.warning(f"{one.path} {shape}: read as (samples, channels, ...); `channels` last reads the last axis")
        elif axis is None:
            log.warning(f"{one.path} {shape}: read as (samples, ..., channels): no shape tells, see `channels`")
        read.append(replace(one, first=axis == FIRST))
    return read


def request(null: str | None, draws: int, seed: int, dead: str) -> CorrelationRequest:
    """Return the request for a pair. Raises BadInput with the name of the parameter that does not fit."""
    if null is not None and null not in NULLS:
        raise BadInput(f"`null` is {null!r}: choose {', '.join(map(repr, NULLS))} or None")
    if dead not in DEAD:
        raise BadInput(f"`dead` is {dead!r}: choose {' or '.join(map(repr, DEAD))}")
    require_whole("draws", draws, 2)
    require_whole("seed", seed, 0)
    return CorrelationRequest(() if null is None else (null,), draws, (), dead == DROP, seed)


def require_whole(name: str, value: object, least: int) -> None:
    """Raise BadInput unless a value is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise BadInput(f"`{name}` is {value!r}: give a whole number from {least} on")


def require_positions(positions: str | int) -> None:
    """Raise BadInput unless positions are "all", "mean" or a number."""
    if positions not in ("all", "mean"):
        require_whole("positions", positions, 1)


def named(names: Sequence[str], count: int) -> tuple:
    """Return the names of some arrays. Raises BadInput unless there are so many."""
    if isinstance(names, str) or len(names) != count:
        raise BadInput(f"`names` is {names!r}: give {count} names")
    return tuple(map(str, names))


def assessments(
    opened: Sequence[ArraySource], asked: CorrelationRequest, positions: str | int = "all", processes: int = 1
) -> list[Assessment]:
    """Return every pair of some arrays, assessed as `basiscli correlate` assesses layers of files.

    processes: how many share the draws of the nulls.
    """
    require_positions(positions)
    require_whole("processes", processes, 1)
    width = max(source.units for source in opened) if asked.nulls else 0
    keep = partial(without_arrays, keep_r=True)
    with nulls.workers(width, processes) as spread:
        ((_, assessed),) = (
            (compared, list(pairs))
            for compared, pairs in assess_layers(layer_moments(opened, asked.reading(positions)), asked, spread, keep)
        )
        return assessed


def similarity(name: str, x: Activations, y: Activations, channels: str | None = None) -> float | None:
    """Return one of SIMILARITIES of two arrays, None where it is undefined."""
    return SIMILARITIES[name].function(pair_moments(x, y, full=True, channels=channels))


def debiased_cka(x: Activations, y: Activations, channels: str | None = None) -> float | None:
    """Return the debiased CKA of two arrays, None where it is undefined."""
    return cka_debiased(pair_moments(x, y, full=True, norms=True, channels=channels))


def pair_moments(
    x: Activations, y: Activations, full: bool = False, norms: bool = False, channels: str | None = None
) -> Moments:
    """Return the moments of two arrays over all rows. full: not only variances. norms: `Moments.norms` too."""
    (moments,) = layer_moments(sources([x, y], ["x", "y"], channels=channels), Reading(0, full, norms=norms))
    return merge(moments.halves)


@dataclass(frozen=True)
class Partners:
    """Matched units i of x and j of y, (pairs,) each, and the units that were constant on the rows of the matching."""

    i: np.ndarray
    j: np.ndarray
    constant: tuple[np.ndarray, np.ndarray]

    def correlations(self, moments: Moments) -> np.ndarray:
        """Return the correlations of the pairs on other rows, without the pairs that are left out there.

        The rule is that of the held-out score: a pair is left out if both its units are constant on one set of rows
        and one of them varies on the other set. Units that are constant on both count 0.
        """
        constant = tuple(moments.variances(k) == 0 for k in (0, 1))
        silent = [halves[0][self.i] & halves[1][self.j] for halves in (self.constant, constant)]
        dead = [first & second for first, second in zip(self.constant, constant, strict=True)]
        left_out = (silent[0] | silent[1]) & ~(dead[0][self.i] | dead[1][self.j])
        kept: np.ndarray = correlation(moments)[self.i, self.j][~left_out]
        return kept


def _ids(groups: ArrayLike, samples: int) -> np.ndarray:
    """Return ids of images. Raises BadInput unless each sample has an id, and two or more ids differ."""
    ids = np.asarray(groups)
    if ids.shape != (samples,):
        raise BadInput(f"`groups` has the shape {ids.shape}: give one id for each of the {samples} samples")
    if len(np.unique(ids)) < 2:
        raise BadInput("`groups` has one id: two halves need two or more")
    return ids
