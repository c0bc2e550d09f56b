"""Functions of arrays: do the units of these activations pair up?

Every function takes activations (samples, ..., units) of the same inputs in the same order: numpy, anything with
`__array__` (a PyTorch tensor too), or an HDF5 data set, which is read in chunks.
"""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from basiscli.analysis import measures
from basiscli.analysis.assess import summarise
from basiscli.analysis.measures import LAYER, Activations
from basiscli.api.correlations import Correlation, Pairwise, correlation_of
from basiscli.errors import BadInput


def correlate(
    x: Activations,
    y: Activations,
    *,
    null: str | None = "rotated",
    draws: int = 100,
    seed: int = 0,
    groups: ArrayLike | None = None,
    dead: str = "zero",
    channels: str | None = None,
    positions: str | int = "all",
    processes: int = 1,
    names: tuple[str, str] = ("x", "y"),
) -> Correlation:
    """Return how well the units of two arrays pair up, beside the score of arbitrary axes of the same space.

    The score is mean_i r_iπ(i): r (units of x, units of y) holds Pearson's correlations over all rows, π is the
    one-to-one assignment that maximises the sum. Held out, π comes from one random half of the samples and r from the
    other, both ways averaged. These are exactly the numbers of `basiscli correlate` on the same arrays in files.

    x, y:      (samples, ..., units), real numbers; all axes but the last must agree, units may differ. Rows are samples
               times positions. Values are float32, or float64 where float32 could not hold them. An HDF5 data set is
               read in chunks, never held whole.
    null:      "rotated" (y times a random rotation of its space), "shuffled" (the samples of y in random order: chance
               alone), or None
    draws:     of the null, 2 or more
    seed:      of the halves and the draws, 0 or more
    groups:    (samples,), ids of original images: samples of one id, such as shifted copies, fall in the same half
    dead:      "zero" counts a constant unit as 0, "drop" leaves it out
    channels:  "first" for arrays (samples, units, ...), "last", or None: the square that positions form tells; a note
               (logger `basiscli`) says how an array was read where another reading is possible
    positions: the rows of a convolution: "all" positions, their "mean", or a number of positions, drawn once
    processes: how many share the draws of 100 units or more; the results do not depend on it. In a script, more than
               one process needs `if __name__ == "__main__":`, as Python's multiprocessing does.
    names:     of the arrays, for tables and figures

    Raises BadInput, a ValueError that names the parameter, if an argument is no such array, and for values that are NaN
    or infinite.

    Source: Li et al. 2015, "Convergent Learning"; the held-out score and the rotated null are ours (docs/metrics.md).

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> inputs = rng.standard_normal((1000, 8))
    >>> x, y = (np.maximum(inputs @ rng.standard_normal((8, 10)), 0) for _ in range(2))
    >>> result = basiscli.correlate(x, y, draws=50)
    >>> round(result.matched_held_out, 2), round(result.null, 2), round(result.ceiling, 2), round(result.share, 2)
    (0.39, 0.32, 0.59, 0.26)
    >>> basiscli.correlate(x, y[:500])
    Traceback (most recent call last):
    basiscli.errors.BadInput: y has 500 samples, x has 1000: give activations of the same inputs in the same order
    """
    request = measures.request(null, draws, seed, dead)
    opened = measures.sources([x, y], ["x", "y"], groups, channels)
    (pair,) = measures.assessments(opened, request, positions, processes)
    return correlation_of(pair, measures.named(names, 2), opened[0].samples[LAYER], null)


def pairwise(
    arrays: Sequence[Activations],
    *,
    null: str | None = "rotated",
    draws: int = 100,
    seed: int = 0,
    groups: ArrayLike | None = None,
    dead: str = "zero",
    channels: str | None = None,
    positions: str | int = "all",
    processes: int = 1,
    names: Sequence[str] | None = None,
) -> Pairwise:
    """Return all pairs of several arrays, and their mean with 95 % intervals over networks.

    arrays: two or more, each as `correlate` takes them; an array stands for a network. The other parameters are those
    of `correlate`; names are x0, x1, ... unless given. Intervals treat networks as the sample, not pairs, which share
    networks (docs/metrics.md); they need three arrays or more.

    All arrays are read once, together. Raises BadInput, with arrays[k], as `correlate` does.

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> inputs = rng.standard_normal((1000, 8))
    >>> xs = [np.maximum(inputs @ rng.standard_normal((8, 10)), 0) for _ in range(3)]
    >>> result = basiscli.pairwise(xs, null=None)
    >>> result.table().columns
    ('x', 'y', 'matched', 'matched held out', 'low', 'high')
    >>> result.pairs[0, 2].permutation.shape
    (10,)
    """
    arrays = list(arrays)
    if len(arrays) < 2:
        raise BadInput(f"`arrays` holds {len(arrays)}: give two or more")
    request = measures.request(null, draws, seed, dead)
    opened = measures.sources(arrays, [f"arrays[{k}]" for k in range(len(arrays))], groups, channels)
    called = measures.named([f"x{k}" for k in range(len(arrays))] if names is None else names, len(arrays))
    assessed = measures.assessments(opened, request, positions, processes)
    pairs = {
        (assessment.pair.a, assessment.pair.b): correlation_of(
            assessment, (called[assessment.pair.a], called[assessment.pair.b]), opened[0].samples[LAYER], null
        )
        for assessment in assessed
    }
    return Pairwise(called, pairs, summarise(assessed), null)


def cka(x: Activations, y: Activations, *, debiased: bool = False, channels: str | None = None) -> float | None:
    """Return linear CKA, |S_xy|² / (|S_xx| |S_yy|) of the centred second moments S, Frobenius norms.

    x, y, channels: as `correlate` takes them. In [0, 1], higher is more alike; the same after a rotation of the units
    of either and a scale for all. None if an array is constant. It rises with few samples for many units; `debiased`
    takes unbiased estimates instead, 0 in the mean of independent arrays (docs/metrics.md). Raises BadInput as
    `correlate` does. Source: Kornblith et al. 2019; debiased Song et al. 2012.

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((500, 4))
    >>> round(basiscli.cka(x, 3 * x[:, ::-1]), 3)
    1.0
    """
    return measures.debiased_cka(x, y, channels) if debiased else measures.similarity("cka", x, y, channels)


def cca(x: Activations, y: Activations, *, channels: str | None = None) -> float | None:
    """Return the mean canonical correlation, over the smaller rank.

    x, y, channels: as `correlate` takes them. In [0, 1], higher is more alike; the same after any invertible linear map
    of either. None if the ranks together exceed rows - 1: some correlations are then 1 whatever the data. Raises
    BadInput as `correlate` does. Source: Hotelling 1936.

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 4))
    >>> round(basiscli.cca(x, x @ rng.standard_normal((4, 4))), 3)
    1.0
    """
    return measures.similarity("cca", x, y, channels)


def svcca(x: Activations, y: Activations, *, channels: str | None = None) -> float | None:
    """Return the mean canonical correlation of the principal components that hold 99 % of each variance.

    x, y, channels: as `correlate` takes them. In [0, 1], higher is more alike; the same after a rotation and a scale
    for all. None as `cca`. Raises BadInput as `correlate` does. Source: Raghu et al. 2017.

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((500, 4))
    >>> round(basiscli.svcca(x, 2 * x), 3)
    1.0
    """
    return measures.similarity("svcca", x, y, channels)


def pwcca(x: Activations, y: Activations, *, channels: str | None = None) -> float | None:
    """Return canonical correlations weighted by what their variates contribute: Σ α_i ρ_i / Σ α_i.

    α_i = Σ_j |<h_i, x_j>|, h_i the variates and x_j the units; with the units of x, then of y, averaged. x, y: as
    `correlate` takes them. In [0, 1], higher is more alike; the same after a permutation and a scale for all. None as
    `cca`. Raises BadInput as `correlate` does. Source: Morcos et al. 2018; averaging both ways is ours.

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((500, 4))
    >>> round(basiscli.pwcca(x, x[:, [1, 0, 3, 2]]), 3)
    1.0
    """
    return measures.similarity("pwcca", x, y, channels)


def procrustes(x: Activations, y: Activations, *, channels: str | None = None) -> float | None:
    """Return |S_xy|_* / √(tr S_xx tr S_yy) = 1 - d²/2, d the Procrustes distance of matrices of norm 1.

    |·|_* is the nuclear norm. x, y, channels: as `correlate` takes them. In [0, 1], higher is more alike; the same
    after a rotation and a scale for all. None if an array is constant. Raises BadInput as `correlate` does. Source:
    Schönemann 1966.

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    >>> x = rng.standard_normal((500, 4))
    >>> round(basiscli.procrustes(x, x @ turn), 3)
    1.0
    """
    return measures.similarity("procrustes", x, y, channels)


def soft_matching(x: Activations, y: Activations, *, channels: str | None = None) -> float | None:
    """Return max Σ T_ij r_ij over T ≥ 0 whose rows add up to 1/units of x and whose columns to 1/units of y.

    r holds the correlations of units; with equally many units it is `matched` of `correlate`. x, y: as `correlate`
    takes them. In [-1, 1], higher is more alike; the same after a permutation, and a positive scale and a shift of each
    unit. Raises BadInput as `correlate` does. Source: Khosla and Williams 2024.

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((500, 4))
    >>> round(basiscli.soft_matching(x, np.repeat(x, 2, axis=1)), 3)
    1.0
    """
    return measures.similarity("soft-matching", x, y, channels)
