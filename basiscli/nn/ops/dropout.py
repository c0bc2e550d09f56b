"""y = x m / (1 - rate), each m 0 with probability `rate`, else 1. In inference y = x.

Srivastava et al. 2014. Derivation: docs/backprop/dropout.md.
"""

import numpy as np

from basiscli import kernels
from basiscli.nn.ops.node import Weight

# Both words of a stream are whole numbers below this bound, which float32 holds exactly.
WORDS = 1 << 24


def weights() -> dict[str, Weight]:
    """Return the state `stream`: a number drawn with the initial weights, and the number of masks drawn so far.

    State is saved and copied with the network. So a resumed run draws the same masks as an uninterrupted run.
    """
    return {"stream": Weight((2,), lambda rng, shape: np.array([rng.integers(WORDS), 0]), trained=False)}


def forward(p, x, train, rate):
    """In training, draw the next mask, which depends on `stream` alone, and apply it."""
    if not train:
        return x, None
    stream = kernels.of(x).next_mask(p["stream"], WORDS)
    return kernels.of(x).dropout(x, stream, rate), (stream, rate)


def backward(dy, cache, need_dx, dp):
    """dx = dy m / (1 - rate)."""
    return kernels.of(dy).dropout(dy, *cache)
