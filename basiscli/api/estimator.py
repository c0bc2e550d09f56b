"""The matched correlation in scikit-learn's manner: units are paired on some data and scored on other data."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from basiscli.analysis import correlate, measures
from basiscli.analysis.measures import Activations, Partners
from basiscli.errors import BadInput


class BasisCorrelation:
    """Pair the units of two arrays on some samples, and score the pairs on others.

    `fit` finds the one-to-one π that maximises Σ_i r_iπ(i), Pearson's correlations; `score` is mean_i r_iπ(i) on the
    samples that it is given. The score is held out only if the two sets of samples have no sample in common.

    dead: "zero" counts a constant unit as 0, "drop" leaves it out.

    permutation_: (units of x,), the unit of y for each unit of x, -1 for none; after `fit`.
    n_units_:     (units of x, units of y); after `fit`.

    It has `get_params` and `set_params`, so scikit-learn can clone it; scikit-learn itself is not needed. Source: Li et
    al. 2015.

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((600, 5))
    >>> y = x[:, [4, 3, 2, 1, 0]] + 0.1
    >>> model = basiscli.BasisCorrelation().fit(x[:300], y[:300])
    >>> model.permutation_
    array([4, 3, 2, 1, 0])
    >>> round(model.score(x[300:], y[300:]), 3)
    1.0
    >>> np.allclose(model.transform(y), x + 0.1)
    True
    """

    permutation_: NDArray[np.intp]
    n_units_: tuple[int, int]

    def __init__(self, dead: str = "zero") -> None:
        self.dead = dead

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {"dead": self.dead}

    def set_params(self, **parameters: Any) -> "BasisCorrelation":
        """Set parameters, and return the estimator. Raises BadInput for an unknown name."""
        for name, value in parameters.items():
            if name not in self.get_params():
                raise BadInput(f"{name}: BasisCorrelation has the parameter dead")
            setattr(self, name, value)
        return self

    def fit(self, x: Activations, y: Activations) -> "BasisCorrelation":
        """Pair the units of x and y, (samples, ..., units); return the estimator. Raises BadInput as `correlate`."""
        request = measures.request(None, 2, 0, self.dead)
        moments = measures.pair_moments(x, y)
        scores = correlate.compare([moments], request.drop_dead)
        self.permutation_, self.n_units_ = scores.permutation, scores.units
        i = np.flatnonzero(scores.permutation >= 0)
        constant = (moments.variances(0) == 0, moments.variances(1) == 0)
        self._partners = Partners(i, scores.permutation[i], constant)
        return self

    def score(self, x: Activations, y: Activations) -> float | None:
        """Return the mean correlation of the pairs on x and y, in [-1, 1]; None if no pair can be scored.

        A pair whose units are both constant in one set of samples, and not in the other, is left out. Raises BadInput
        before `fit`, for another number of units, and as `correlate`.
        """
        self._require_fitted()
        moments = measures.pair_moments(x, y)
        units = tuple(len(mean) for mean in moments.means)
        for name, given, fitted in zip(("x", "y"), units, self.n_units_, strict=True):
            if given != fitted:
                raise BadInput(f"{name} has {given} units, fit saw {fitted}")
        return correlate.mean(self._partners.correlations(moments))

    def transform(self, y: Activations) -> np.ndarray:
        """Return y (samples, ..., units) with its units in the order of x's, (samples, ..., units of x).

        Raises BadInput before `fit`, and where a unit of x has no partner.
        """
        self._require_fitted()
        if (self.permutation_ < 0).any():
            raise BadInput("y: some units of x have no partner; fit y with at least as many units, and dead='zero'")
        values = measures.on_host(measures.source(y, "y").values[:])
        if values.shape[-1] != self.n_units_[1]:
            raise BadInput(f"y has {values.shape[-1]} units, fit saw {self.n_units_[1]}")
        return values[..., self.permutation_]

    def __repr__(self) -> str:
        return f"BasisCorrelation(dead={self.dead!r})"

    def _require_fitted(self) -> None:
        if not hasattr(self, "permutation_"):
            raise BadInput("BasisCorrelation is not fitted yet: call fit(x, y) first")
