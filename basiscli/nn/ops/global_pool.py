"""y = the mean over all positions: (S, N, H, W, C) -> (S, N, C). Derivation: docs/backprop/pooling.md."""

from basiscli import kernels


def forward(p, x, train):
    """y = Σ_ij x[i, j] / (H W)."""
    return kernels.of(x).global_pool(x), x.shape[2:4]


def backward(dy, cache, need_dx, dp):
    """dx = dy / (H W) at every position."""
    return kernels.of(dy).global_pool_gradient(dy, cache)
