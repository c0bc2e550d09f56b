"""Privileged and convergent bases in neural networks: train, rotate, match, correlate, interpolate.

Do two arrays share a basis? The units of y are those of x in another order, with noise; `turned` has other axes:

>>> import numpy as np
>>> import basiscli
>>> rng = np.random.default_rng(0)
>>> inputs = rng.standard_normal((2000, 32))
>>> x = np.maximum(inputs @ rng.standard_normal((32, 64)), 0)
>>> y = x[:, rng.permutation(64)] + rng.standard_normal((2000, 64))
>>> result = basiscli.correlate(x, y)
>>> result
x and y: 64 and 64 units, 2000 samples
score             value  how to read it
matched           0.953  mean correlation of units paired one to one
matched held out  0.953  paired on one half of the samples, scored on the other
rotated null      0.354  the same with arbitrary axes of y's space, units standardised
excess            0.599  matched held out above the null
aligned ceiling   0.951  after the best rotation of y, units standardised
share             1.003  of the way from the null to the ceiling
>>> turned = basiscli.correlate(x, x @ np.linalg.qr(rng.standard_normal((64, 64)))[0])
>>> round(turned.share, 1), round(turned.ceiling, 1)
(0.0, 1.0)
>>> figure = result.plot()
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from basiscli.api.arrays import cca, cka, correlate, pairwise, procrustes, pwcca, soft_matching, svcca
    from basiscli.api.correlations import Correlation, Pairwise
    from basiscli.api.estimator import BasisCorrelation
    from basiscli.api.networks import TrainedNetwork, load, train
    from basiscli.api.paths import Interpolation, Matching, interpolate, match
    from basiscli.api.privileges import Privilege, privilege
    from basiscli.api.rotations import Rotations, rotate
    from basiscli.api.tables import Table
    from basiscli.api.units import Universality, universality
    from basiscli.errors import BadInput

# Where each name lives. A module is imported when one of its names is first asked for: `basiscli --help` needs none.
_HOMES = {
    "correlate": "api.arrays",
    "pairwise": "api.arrays",
    "cka": "api.arrays",
    "cca": "api.arrays",
    "svcca": "api.arrays",
    "pwcca": "api.arrays",
    "procrustes": "api.arrays",
    "soft_matching": "api.arrays",
    "BasisCorrelation": "api.estimator",
    "Correlation": "api.correlations",
    "Pairwise": "api.correlations",
    "load": "api.networks",
    "train": "api.networks",
    "TrainedNetwork": "api.networks",
    "match": "api.paths",
    "Matching": "api.paths",
    "interpolate": "api.paths",
    "Interpolation": "api.paths",
    "privilege": "api.privileges",
    "Privilege": "api.privileges",
    "rotate": "api.rotations",
    "Rotations": "api.rotations",
    "Table": "api.tables",
    "universality": "api.units",
    "Universality": "api.units",
    "BadInput": "errors",
}

__all__ = [
    "BadInput",
    "BasisCorrelation",
    "Correlation",
    "Interpolation",
    "Matching",
    "Pairwise",
    "Privilege",
    "Rotations",
    "Table",
    "TrainedNetwork",
    "Universality",
    "cca",
    "cka",
    "correlate",
    "interpolate",
    "load",
    "match",
    "pairwise",
    "privilege",
    "procrustes",
    "pwcca",
    "rotate",
    "soft_matching",
    "svcca",
    "train",
    "universality",
]


if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'basiscli' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"basiscli.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
