"""Two networks brought into one basis, and the straight line between them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from basiscli.alignment import corrections, interpolation, matching
from basiscli.analysis.barriers import Curve
from basiscli.analysis.measures import require_whole
from basiscli.api.networks import TrainedNetwork, loaded_of
from basiscli.api.tables import Table
from basiscli.errors import BadInput
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import Loaded

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Matching:
    """The permutations between the units of two networks: the result of `match`.

    permutations:     (units,) by group: unit i of a is unit p[i] of b
    network:          b in the order of a; it computes the same function as b
    logit_difference: the largest change of a logit by the permutation, from rounding, over the largest logit
    objective:        (before, after): the cosine of a's and b's weights over all groups, in [-1, 1]
    correlation:      (before, after): the mean correlation of matched units; None if activations were not needed

    >>> import numpy as np, basiscli
    >>> (a,) = basiscli.train("digits", hidden=(16, 8), epochs=1)
    >>> b = a.permute({"hidden1": np.arange(16)[::-1]})
    >>> result = basiscli.match(a, b)
    >>> result.permutations["hidden1"][:3], round(result.objective[1], 3)
    (array([15, 14, 13]), 1.0)
    """

    permutations: Mapping[str, NDArray[np.intp]]
    network: TrainedNetwork
    logit_difference: float
    objective: tuple[float, float]
    correlation: tuple[float, float] | None
    _groups: tuple[matching.GroupReport, ...]

    def table(self) -> Table:
        """Return a row for each group of units and one for all (docs/match.md has the fields)."""
        return Table(tuple(asdict(group) for group in self._groups))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@dataclass(frozen=True, eq=False, repr=False)
class Interpolation:
    """Loss and accuracy on the straight line between two networks: the result of `interpolate`.

    curves: by (match, correct), each with `lambdas`, `loss` (nats) and `accuracy`, (points,)
    split:  the images that were evaluated

    >>> import basiscli
    >>> a, b = basiscli.train("digits", seeds=2, hidden=(16,), epochs=1)
    >>> result = basiscli.interpolate(a, b, match=("none", "weights"), points=5, samples=200)
    >>> sorted(result.curves)
    [('none', 'none'), ('weights', 'none')]
    >>> result.curves["none", "none"].loss.shape
    (5,)
    >>> result.barriers["none", "none"] >= 0
    True
    """

    curves: Mapping[tuple[str, str], Curve]
    split: str

    @property
    def barriers(self) -> dict[tuple[str, str], float]:
        """By (match, correct), max over λ of L(λ) - ((1 - λ) L(0) + λ L(1)), in nats, 0 or more."""
        return {name: float(curve.fields()["barrier"]) for name, curve in self.curves.items()}

    def table(self) -> Table:
        """Return a row for each condition: the barrier, the midpoint's loss, and the loss of accuracy."""
        rows = []
        for (match, correct), curve in self.curves.items():
            fields = {name: float(value) for name, value in curve.fields().items()}
            names = ("loss_a", "loss_b", "barrier", "midpoint", "accuracy_barrier", "accuracy_midpoint")
            rows.append({"match": match, "correct": correct, **{name: fields[name] for name in names}})
        return Table(tuple(rows))

    def plot(self) -> "Figure":
        """Return a figure: loss and accuracy along the path, a line for each condition."""
        from basiscli.plots.experiments import paths_figure

        return paths_figure({(name, self.split): {(0, 1): curve} for name, curve in self.curves.items()})

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def match(
    a: TrainedNetwork | str | Path,
    b: TrainedNetwork | str | Path,
    *,
    by: str = "weights",
    restarts: int = matching.RESTARTS,
    from_init: bool = False,
    similarity: str = matching.CORRELATION,
    split: str = "train",
    samples: int | None = matching.SAMPLES,
    dataset: str | None = None,
    seed: int = 0,
) -> Matching:
    """Return the permutation of b's units into the order of a, after proof that b's function does not change.

    By weights, π maximises Σ <A, π(B)> over the weights, by coordinate descent from `restarts` starts. By activations,
    each group's π is the assignment that maximises Σ_i r_iπ(i) over its layers.

    a, b:       networks of one architecture and data set, or their files
    by:         "weights", "activations", "both" (weights, from activations on) or "none"
    restarts:   the number of descents, each from another start; the best one counts
    from_init:  weights count as their change since initialisation
    similarity: of activations, "correlation" or "product"
    split:      the images for activations: "train", "test", or one with "-shifts"; samples: at most so many of them
    dataset:    where the data set is now, if it has moved
    seed:       of the starts

    Raises BadInput for networks that cannot be matched. Source: Ainsworth, Hayase and Srinivasa 2023, "Git Re-Basin";
    Li et al. 2015.

    >>> import numpy as np, basiscli
    >>> (a,) = basiscli.train("digits", hidden=(16,), epochs=1)
    >>> result = basiscli.match(a, a.permute({"hidden1": np.roll(np.arange(16), 1)}), by="activations")
    >>> bool(np.allclose(result.network.weights["hidden1/w"], a.weights["hidden1/w"]))
    True
    """
    _require_choice("by", by, matching.MATCHES)
    _require_choice("similarity", similarity, matching.SIMILARITIES)
    require_whole("restarts", restarts, 1)
    require_whole("seed", seed, 0)
    request = matching.MatchRequest(by, restarts, seed, similarity, from_init, split, samples, dataset)
    reference, other = loaded_of(a, "a"), loaded_of(b, "b")
    alignment = matching.align(reference, other, request)
    origin = {"made": "match", "of": [reference.path, other.path], "by": by}
    images = matching.proof_images(reference, dataset)
    moved, difference = matching.apply(other, alignment.permutations, images, origin)
    total = alignment.total
    before, after = total.correlation_before, total.correlation_after
    return Matching(
        permutations=alignment.permutations,
        network=TrainedNetwork(None, moved),
        logit_difference=difference,
        objective=(total.objective_before, total.objective_after),
        correlation=None if before is None or after is None else (before, after),
        _groups=(*alignment.groups, total),
    )


def interpolate(
    a: TrainedNetwork | str | Path,
    b: TrainedNetwork | str | Path,
    *,
    match: str | Sequence[str] = ("none", "activations", "weights"),
    correct: str | Sequence[str] = "none",
    points: int = 25,
    split: str = "test",
    samples: int | None = None,
    correct_on: int = interpolation.CORRECT_ON,
    temperature: float = 1.0,
    dataset: str | None = None,
    seed: int = 0,
) -> Interpolation:
    """Return loss and accuracy at θ(λ) = (1 - λ) θ_a + λ π(θ_b), for λ from 0 to 1.

    a, b:        networks of one architecture and data set, or their files
    match:       how π is found: "none", "activations", "weights", "both", or several of them
    correct:     "none", "reset-bn" (BatchNorm's statistics), "repair" (mean and deviation of every unit), or several
    points:      values of λ, odd, 3 or more
    split:       "test" or "train"; samples: at most so many of its images, drawn by `seed`
    correct_on:  the number of training images for corrections
    temperature: divides the logits
    dataset:     where the data set is now, if it has moved

    Raises BadInput for networks that do not fit together, and for a reset where there is no BatchNorm. Source: Frankle
    et al. 2020; REPAIR: Jordan et al. 2023 (docs/connectivity.md).

    >>> import basiscli
    >>> a, b = basiscli.train("digits", seeds=2, hidden=(16,), epochs=1)
    >>> result = basiscli.interpolate(a, b, match="weights", correct="repair", points=3, samples=100)
    >>> result.table().columns[:3]
    ('match', 'correct', 'loss_a')
    """
    ways, corrected = _listed("match", match, matching.MATCHES), _listed("correct", correct, corrections.CORRECTIONS)
    _require_choice("split", split, interpolation.SPLITS)
    require_whole("seed", seed, 0)
    require_whole("points", points, 3)
    if points % 2 == 0:
        raise BadInput(f"`points` is {points}: give an odd number, so that the midpoint is one")
    if not temperature > 0:
        raise BadInput(f"`temperature` is {temperature!r}: give a number above 0")
    networks = [_moved(loaded_of(a, "a"), dataset), _moved(loaded_of(b, "b"), dataset)]
    matching.require_alike(networks)
    corrections.require_possible(networks[0].network, corrected)
    walk = interpolation.prepare_walk(
        networks, dataset_of(networks[0]), [split], points=points, samples=samples, correct_on=correct_on,
        temperature=temperature, seed=seed,
    )  # fmt: skip
    curves = {}
    for way, aligned in interpolation.alignments(networks, interpolation.requests(ways, seed=seed)):
        for walked in interpolation.walk_pairs(walk, networks, way, aligned, corrected):
            curves[walked.match, walked.correct] = walked.curves[split]
    return Interpolation(curves, split)


def _require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BadInput(f"`{name}` is {value!r}: choose {' or '.join(map(repr, choices))}")


def _listed(name: str, value: str | Sequence[str], choices: Sequence[str]) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else tuple(value)
    if not values:
        raise BadInput(f"`{name}` is empty: choose {' or '.join(map(repr, choices))}")
    for item in values:
        _require_choice(name, item, choices)
    return values


def _moved(loaded: Loaded, dataset: str | None) -> Loaded:
    """Return a network with another name of its data set."""
    if dataset is None:
        return loaded
    return replace(loaded, file=replace(loaded.file, dataset=loaded.file.dataset | {"name": dataset}))
