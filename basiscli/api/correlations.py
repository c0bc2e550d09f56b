"""Results of correlating arrays: numbers as attributes, tables, and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from basiscli.analysis.assess import Assessment
from basiscli.api.tables import Table
from basiscli.errors import BadInput
from basiscli.names import in_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The names of the fields of a null and of its ceiling in records. Null and ceiling are those of the share, of
# standardised units, so that the three numbers belong together.
NULLS = {"rotated": "standardised_rotated_held_out", "shuffled": "shuffled_held_out"}
CEILING = "standardised_aligned_held_out"
HOW_TO_READ = {
    "matched": "mean correlation of units paired one to one",
    "matched held out": "paired on one half of the samples, scored on the other",
    "rotated null": "the same with arbitrary axes of y's space, units standardised",
    "shuffled null": "the same with the samples of y in random order",
    "excess": "matched held out above the null",
    "aligned ceiling": "after the best rotation of y, units standardised",
    "share": "of the way from the null to the ceiling",
}


class Scores:
    """The scores of a pair of arrays, or of the mean over pairs; None where a score is undefined."""

    scores: Mapping[str, float | None]
    null_name: str | None

    @property
    def matched(self) -> float | None:
        """mean_i r_iπ(i) of the best one-to-one π, in sample; in [-1, 1]. It flatters wide layers."""
        return self.scores["matched"]

    @property
    def matched_held_out(self) -> float | None:
        """mean_i r_iπ(i) with π from one half of the samples and r from the other, both ways averaged; in [-1, 1]."""
        return self.scores["matched_held_out"]

    @property
    def null(self) -> float | None:
        """The mean of `matched_held_out` over the draws of the null, of standardised units if rotated; in [-1, 1]."""
        return self._of_null("mean")

    @property
    def excess(self) -> float | None:
        """`matched_held_out` - `null`: the part that the axes have in common; in [-2, 2], 0 without a common basis."""
        return self._of_null("excess")

    @property
    def ceiling(self) -> float | None:
        """mean_i r_ii after the best rotation of y, found on the other half; of standardised units, in [-1, 1].

        None without the rotated null.
        """
        return self.scores.get(CEILING)

    @property
    def share(self) -> float | None:
        """(matched_held_out - null) / (ceiling - null): 0 for arbitrary axes, 1 for a permuted copy.

        None without the rotated null, and if the ceiling is not above the null. For several networks it is the share of
        the means.
        """
        return self.scores.get("share")

    def _of_null(self, what: str) -> float | None:
        return None if self.null_name is None else self.scores[f"{NULLS[self.null_name]}_{what}"]

    def _headline(self) -> dict[str, float | None]:
        """Return the main numbers by the names of a table's rows."""
        numbers = {"matched": self.matched, "matched held out": self.matched_held_out}
        if self.null_name is not None:
            numbers |= {f"{self.null_name} null": self.null, "excess": self.excess}
        if CEILING in self.scores:
            numbers |= {"aligned ceiling": self.ceiling, "share": self.share}
        return numbers


@dataclass(frozen=True, eq=False, repr=False)
class Correlation(Scores):
    """How well the units of two arrays pair up: the result of `correlate`.

    names:       the names of the arrays in tables and figures
    units, dead: (units of x, units of y), and how many of them are constant
    samples:     the length of the first axis
    scores:      every field of the record that `basiscli correlate` prints, by its name there (docs/metrics.md)
    null_name:   "rotated", "shuffled" or None
    permutation: (units of x,), the unit of y that each unit of x is matched with in sample, -1 for none
    r:           (units of x, units of y), Pearson's correlations over all rows
    draws:       (draws,), `matched_held_out` of each draw of the null, of which `null` is the mean

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((400, 3))
    >>> result = basiscli.correlate(x, x[:, [2, 0, 1]], draws=20)
    >>> result.permutation
    array([1, 2, 0])
    >>> round(result.matched_held_out, 3), result.excess > 0.1, result.r.shape
    (1.0, True, (3, 3))
    """

    names: tuple[str, str]
    units: tuple[int, int]
    dead: tuple[int, int]
    samples: int
    scores: Mapping[str, float | None]
    null_name: str | None
    permutation: NDArray[np.intp]
    r: NDArray[np.float64]
    draws: NDArray[np.float64]
    _assessment: Assessment = field(repr=False)

    def table(self) -> Table:
        """Return the main scores, a row for each score, with a line on how to read it."""
        return Table(
            tuple(
                {"score": name, "value": value, "how to read it": HOW_TO_READ[name]}
                for name, value in self._headline().items()
            )
        )

    def plot(self) -> "Figure":
        """Return a figure: r as the units come, r after matching, and the correlations of matched units.

        The correlations are held out, and drawn over those of some draws of the rotated null.
        """
        from basiscli.plots.networks import pair_figure

        return pair_figure(*self.names, [self._assessment])

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return f"<p>{in_html(self._title())}</p>{self.table()._repr_html_()}"

    def _title(self) -> str:
        dead = f", {self.dead[0]} and {self.dead[1]} constant" if any(self.dead) else ""
        return (
            f"{self.names[0]} and {self.names[1]}: {self.units[0]} and {self.units[1]} units{dead}, "
            f"{self.samples} samples"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Pairwise(Scores):
    """All pairs of several arrays, and their mean with intervals over networks: the result of `pairwise`.

    names:     the names of the arrays in tables and figures
    pairs:     the result of each pair (i, j), i < j
    scores:    the mean of every field over pairs, and <field>_low, <field>_high and <field>_error: the ends of its 95 %
               interval and its standard error over networks
    null_name: "rotated", "shuffled" or None

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> inputs = rng.standard_normal((400, 8))
    >>> xs = [np.maximum(inputs @ rng.standard_normal((8, 6)), 0) for _ in range(4)]
    >>> result = basiscli.pairwise(xs, draws=20)
    >>> len(result.pairs), result.matrix("matched_held_out").shape
    (6, (4, 4))
    >>> low, high = result.interval("matched_held_out")
    >>> low < result.matched_held_out < high
    True
    """

    names: tuple[str, ...]
    pairs: Mapping[tuple[int, int], Correlation]
    scores: Mapping[str, float | None]
    null_name: str | None

    def interval(self, name: str) -> tuple[float | None, float | None]:
        """Return the ends of the 95 % interval of a field's mean over networks; None for fewer than three networks.

        Raises BadInput for a field that is no score of networks.
        """
        if f"{name}_low" not in self.scores:
            known = ", ".join(score for score in self.scores if f"{score}_low" in self.scores)
            raise BadInput(f"`name` is {name!r}: there are intervals of {known}")
        return self.scores[f"{name}_low"], self.scores[f"{name}_high"]

    def matrix(self, name: str) -> NDArray[np.float64]:
        """Return a field of all pairs, (networks, networks), symmetric; NaN on the diagonal and where it is undefined.

        Raises BadInput for an unknown field.
        """
        table = np.full((len(self.names), len(self.names)), np.nan)
        for (i, j), pair in self.pairs.items():
            if name not in pair.scores:
                raise BadInput(f"`name` is {name!r}: there are {', '.join(pair.scores)}")
            value = pair.scores[name]
            table[i, j] = table[j, i] = np.nan if value is None else value
        return table

    def table(self) -> Table:
        """Return a row for each pair, and the row of their mean with the interval of `matched_held_out`."""
        rows = [{"x": pair.names[0], "y": pair.names[1], **pair._headline()} for pair in self.pairs.values()]
        low, high = self.interval("matched_held_out")
        mean = {"x": f"{len(self.names)} networks", "y": f"{len(rows)} pairs", **self._headline()}
        return Table(tuple([*rows, mean | ({} if low is None else {"low": low, "high": high})]))

    def plot(self) -> "Figure":
        """Return a figure: every pair between its null and its ceiling, and their mean with its interval."""
        from basiscli.plots.pairs import Row, pairs_figure

        rows = [
            Row(" and ".join(pair.names), pair.matched_held_out, _band([pair.draws]), pair.ceiling)
            for pair in self.pairs.values()
        ]
        band = _band([pair.draws for pair in self.pairs.values()])
        low, high = self.interval("matched_held_out")
        interval = None if low is None or high is None else (low, high)
        mean = Row(f"mean of {len(rows)}", self.matched_held_out, band, self.ceiling, interval)
        return pairs_figure(rows, mean, self.null_name)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def correlation_of(assessment: Assessment, names: tuple[str, str], samples: int, null: str | None) -> Correlation:
    """Return the result of one assessed pair."""
    scores = assessment.pair.scores
    return Correlation(
        names=names,
        units=scores.units,
        dead=scores.dead,
        samples=samples,
        scores=assessment.fields,
        null_name=null,
        permutation=scores.permutation,
        r=scores.r,
        draws=_draws(assessment, null),
        _assessment=assessment,
    )


def _draws(assessment: Assessment, null: str | None) -> NDArray[np.float64]:
    """Return the scores of the draws whose mean is the null."""
    if null is None:
        return np.empty(0)
    drawn = assessment.nulls[null]
    return drawn.standardised_held_out if null == "rotated" else drawn.held_out


def _band(draws: Sequence[NDArray[np.float64]]) -> tuple[float, float, float] | None:
    """Return the 2.5 % quantile, the mean and the 97.5 % quantile of the draws of a pair, each averaged over pairs."""
    known = [of_pair for of_pair in draws if len(of_pair)]
    if not known:
        return None
    low, high = np.mean([np.quantile(of_pair, (0.025, 0.975)) for of_pair in known], axis=0)
    return float(low), float(np.mean([of_pair.mean() for of_pair in known])), float(high)
