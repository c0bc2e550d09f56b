"""y = every stride-th row and column of x, with units of 0 after the units of x: the shortcut of option A.

He et al. 2016. Derivation: docs/backprop/residual.md.
"""

from basiscli import kernels


def forward(p, x, train, stride, units):
    """y[i, j, c] = x[stride i, stride j, c] for the units of x, 0 for the rest of `units`."""
    return kernels.of(x).subsample(x, stride, units), (stride, x.shape)


def backward(dy, cache, need_dx, dp):
    """dx[stride i, stride j] = dy[i, j] for the units of x; 0 elsewhere."""
    return kernels.of(dy).subsample_gradient(dy, *cache)
