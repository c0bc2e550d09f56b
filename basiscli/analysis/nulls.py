"""Null distributions: the basis correlation without a common basis, drawn from the moments alone."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing import get_context

import numpy as np

from basiscli.analysis.correlate import compare, held_out_alone, inverse_root, mean, standardised
from basiscli.analysis.moments import Moments, merge
from basiscli.analysis.random_maps import haar
from basiscli.device.threads import blas
from basiscli.rng import generator

# With fewer units a draw takes 2 ms or less: too little for other processes, which take 0.7 s to start.
POOL_UNITS = 100
# Draws in one task of a process: the moments are sent with each task, and Ctrl-C waits for its end.
PART_DRAWS = 8
KEPT_DRAWS = 20
# A rotation of 512 units takes 30 ms, a third of a draw. Those of a few sizes are kept, so many bytes of each size.
KEPT_BYTES = 32_000_000
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Null:
    """Scores of many draws, (draws,) each; held_out is empty where it is undefined.

    correlations: the matched correlations of single units, of the first few draws. With two halves they are held out,
    and of standardised units where the null has such scores.
    standardised_held_out: the held-out score of units that are divided by their standard deviations and then rotated.
    """

    in_sample: np.ndarray
    held_out: np.ndarray
    correlations: np.ndarray
    standardised_held_out: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Calibration:
    """A score beside its null: excess = score - mean, z = excess / deviation, beaten: the share of draws below it."""

    mean: float | None = None
    deviation: float | None = None
    excess: float | None = None
    z: float | None = None
    beaten: float | None = None


def calibrate(score: float | None, draws: np.ndarray) -> Calibration:
    """Compare a score with the draws of its null; all fields are None without a score or with fewer than two draws."""
    if score is None or len(draws) < 2:
        return Calibration()
    mean, deviation = float(draws.mean()), float(draws.std(ddof=1))
    excess = score - mean
    z = excess / deviation if deviation > 0 else None
    return Calibration(mean, deviation, excess, z, float(np.mean(draws < score)))


def rotated(halves: Sequence[Moments], draws: int, seed: int, drop_dead: bool = False, spread: Callable = map) -> Null:
    """Match A with B Q, Q Haar over B's live units: the same space, arbitrary axes.

    Only two moments change: S_AB becomes S_AB Q, and S_BB becomes Qᵀ S_BB Q, which needs the full S_BB. Dead units stay
    unchanged. The standardised null divides each unit by its standard deviation first, and uses the same Q.
    """
    whole = merge(halves)
    live = np.flatnonzero(whole.variances(1) > 0)
    sizes = [float(inverse_root(whole.variances(k).max(keepdims=True, initial=0))[0]) for k in (0, 1)]
    raw = [_in_float32(half.scaled(*sizes)) for half in halves]
    standard = [_in_float32(half) for half in standardised(halves)] if len(halves) > 1 else []
    draws_of = over_draws(partial(_rotated_draw, raw, standard, live, seed, drop_dead), draws, spread)
    scores = [score for _, *_, score in draws_of if score is not None]
    return replace(_null([draw[:3] for draw in draws_of]), standardised_held_out=np.array(scores))


def shuffled(
    halves: Sequence[Moments],
    rows_per_image: int,
    draws: int,
    seed: int,
    drop_dead: bool = False,
    spread: Callable = map,
) -> Null:
    """Match A with the rows of B in random order: the score of chance at this width and number of images.

    S_AB is then nearly Gaussian with the covariance S_AA ⊗ S_BB / (n - 1) (Hoeffding's combinatorial limit theorem),
    so it is drawn as F_A Z F_Bᵀ / √(n - 1), where F Fᵀ = S. n counts images, not rows: rows of one image are no
    independent evidence. Where an image has several rows, this is an upper bound of the score of chance.
    """
    parts = [
        (
            [_factor(own) for own in half.own],
            [half.variances(k) for k in (0, 1)],
            half.rows,
            half.rows // rows_per_image,
        )
        for half in halves
    ]
    if min(images for *_, images in parts) < 2:
        return Null(np.empty(0), np.empty(0), np.empty(0))
    return _null(over_draws(partial(_shuffled_draw, parts, seed, drop_dead), draws, spread))


def shuffled_similarities(
    whole: Moments,
    rows_per_image: int,
    functions: Mapping[str, Callable[[Moments], float | None]],
    draws: int,
    seed: int,
    spread: Callable = map,
) -> dict[str, np.ndarray]:
    """Return similarities of A and the rows of B in random order, (draws,) each; empty where undefined.

    Only S_AB changes; it is drawn as in `shuffled`. functions: of full moments, by name.
    """
    images = whole.rows // rows_per_image
    if images < 2:
        return {name: np.empty(0) for name in functions}
    factors = [_factor(own) for own in whole.own]
    draw = partial(_similarities_draw, whole.alone((0, 1)), factors, images, list(functions.values()), seed)
    drawn = over_draws(draw, draws, spread)
    return {name: np.array([of[k] for of in drawn if of[k] is not None]) for k, name in enumerate(functions)}


def privileges(owns: Sequence[np.ndarray], draws: int, seed: int, spread: Callable = map) -> list[Calibration]:
    """Compare how little the units of each network correlate with random axes of its space; owns: S (U, U) of each.

    The score is 1 - T / (mean T of the draws), T the root mean square of r_ij over pairs i ≠ j of live units; a draw is
    T of QᵀSQ. The score is 1 for uncorrelated units. It is 0 if units correlate as much as any axes (in a rotated
    network, or if the space is equally wide in all directions), and below 0 if they correlate more. Only second moments
    count. Networks with the same number of live units share each Q, which takes most of the time.
    """
    live = [np.flatnonzero(own.diagonal() > 0) for own in owns]
    spaces = [own[np.ix_(units, units)] for own, units in zip(owns, live, strict=True)]
    spaces = [(s / s.diagonal().max(initial=1e-300)).astype(np.float32) for s in spaces]
    calibrations = [Calibration()] * len(owns)
    for size in {len(units) for units in live if len(units) > 1}:
        members = [k for k, units in enumerate(live) if len(units) == size]
        turned = np.array(over_draws(partial(_redundancy_draw, [spaces[k] for k in members], seed), draws, spread))
        for k, of_network in zip(members, turned.T, strict=True):
            usual = of_network.mean()
            if usual > 0:
                calibrations[k] = calibrate(1 - redundancy(spaces[k]) / usual, 1 - of_network / usual)
    return calibrations


@contextmanager
def workers(units: int, processes: int | None = None) -> Iterator[Callable]:
    """Yield a function like `map` for draws: `map` for few units, else that of a pool (processes None: one a core).

    The draws are the same, bit for bit, whatever the number of processes.

    Threads do not help: two threads that call BLAS wait for each other (100 draws of 512 units: 12 s, as without
    threads). Processes with one BLAS thread each take 5 s.
    """
    processes = processes or os.cpu_count() or 1
    if units < POOL_UNITS or processes == 1:
        yield map if units < POOL_UNITS else _map_on_one_thread
        return
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))  # read when the new processes load numpy
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _map_on_one_thread(function: Callable, items: Sequence) -> list:
    """Map with one BLAS thread, as a process of the pool does."""
    with blas().limit(limits=1):
        return list(map(function, items))


def over_draws(draw: Callable, draws: int, spread: Callable) -> list:
    """Return draw(0), draw(1), ..., in parts by a function like `map`, see `workers`."""
    parts = [range(first, min(first + PART_DRAWS, draws)) for first in range(0, draws, PART_DRAWS)]
    return [result for part in spread(partial(_draw_part, draw), parts) for result in part]


def _draw_part(draw: Callable, numbers: range) -> list:
    return [draw(number) for number in numbers]


def _null(drawn: Sequence[tuple]) -> Null:
    held_out = [score for _, score, _ in drawn if score is not None]
    kept = [values for _, _, values in drawn[:KEPT_DRAWS]]
    return Null(np.array([score for score, _, _ in drawn]), np.array(held_out), np.concatenate(kept))


def _in_float32(half: Moments) -> Moments:
    """Return moments in which the products that a rotation changes are float32. Of A only variances are kept.

    The moments were added up from float32 products, so their errors are 1e-6 already. A product takes half the time.
    """
    own = (half.variances(0), half.own[1].astype(np.float32))
    return Moments(half.rows, half.means, own, {(0, 1): half.cross[0, 1].astype(np.float32)})


def _rotated_draw(
    raw: Sequence[Moments], standard: Sequence[Moments], live: np.ndarray, seed: int, drop_dead: bool, draw: int
) -> tuple:
    """Return the scores of `_score` and the held-out score of standardised units; single units are then these."""
    q = np.eye(len(raw[0].means[1]), dtype=np.float32)
    q[np.ix_(live, live)] = _rotation(seed, draw, len(live))
    scores = _score([_rotate(half, q) for half in raw], drop_dead, draw)
    if not standard:
        return *scores, None
    single = held_out_alone([_rotate(half, q) for half in standard], drop_dead)
    return *scores[:2], single if draw < KEPT_DRAWS else None, mean(single)


def _rotation(seed: int, draw: int, size: int) -> np.ndarray:
    """Return the Haar matrix of a draw; the first ones of a size are kept, as all pairs and layers share them."""
    kept = _rotations(seed, size)
    if draw in kept:
        return kept[draw]
    q = haar(generator(seed, "rotated", draw), size, np.float32)
    if (len(kept) + 1) * q.nbytes <= KEPT_BYTES:
        kept[draw] = q
    return q


@lru_cache(maxsize=4)
def _rotations(seed: int, size: int) -> dict[int, np.ndarray]:
    return {}


def _rotate(half: Moments, q: np.ndarray) -> Moments:
    turned = np.einsum("ij,ij->j", q, half.own[1] @ q).astype(np.float64)
    own = (half.own[0], np.where(turned > 0, turned, 0))
    return Moments(half.rows, (half.means[0], half.means[1] @ q), own, {(0, 1): half.cross[0, 1] @ q})


def _shuffled_draw(parts: Sequence[tuple], seed: int, drop_dead: bool, draw: int) -> tuple:
    rng = generator(seed, "shuffled", draw)
    halves = []
    for (factor_a, factor_b), own, rows, images in parts:
        z = rng.standard_normal((factor_a.shape[1], factor_b.shape[1])) / np.sqrt(images - 1)
        means = tuple(np.zeros(len(variances)) for variances in own)
        halves.append(Moments(rows, means, tuple(own), {(0, 1): factor_a @ z @ factor_b.T}))
    return _score(halves, drop_dead, draw)


def _similarities_draw(
    whole: Moments, factors: Sequence[np.ndarray], images: int, functions: Sequence[Callable], seed: int, draw: int
) -> list[float | None]:
    z = generator(seed, "shuffled similarities", draw).standard_normal([f.shape[1] for f in factors])
    cross = factors[0] @ (z / np.sqrt(images - 1)) @ factors[1].T
    shuffled_rows = replace(whole, cross={(0, 1): cross})
    return [function(shuffled_rows) for function in functions]


def _score(halves: Sequence[Moments], drop_dead: bool, draw: int) -> tuple:
    scores = compare(halves, drop_dead)
    single = scores.held_out if len(halves) == 2 else scores.in_sample
    return scores.matched, scores.matched_held_out, single if draw < KEPT_DRAWS else None


def _factor(s: np.ndarray) -> np.ndarray:
    """Return F (U, rank) with F Fᵀ = S."""
    values, vectors = np.linalg.eigh(s)
    kept = values > 1e-7 * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _redundancy_draw(spaces: Sequence[np.ndarray], seed: int, draw: int) -> list[float]:
    q = haar(generator(seed, "privilege", draw), len(spaces[0]), np.float32)
    return [redundancy(q.T @ s @ q) for s in spaces]


def redundancy(s: np.ndarray) -> float:
    """Return the root mean square of r_ij over pairs i ≠ j of units with the moments S (U, U)."""
    scale = inverse_root(np.maximum(s.diagonal(), 0))
    r = s * scale[:, None] * scale
    np.fill_diagonal(r, 0)
    return float(np.sqrt(np.sum(r * r, dtype=np.float64) / (r.size - len(r))))
