"""y = x + skip: a residual branch and what goes round it. Derivation: docs/backprop/residual.md."""

from basiscli import kernels


def forward(p, x, skip, train):
    """y = x + skip, of one shape."""
    return kernels.of(x).add(x, skip), None


def backward(dy, cache, need_dx, dp):
    """dx = dskip = dy."""
    return dy, dy
