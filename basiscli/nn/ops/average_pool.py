"""y = the mean of each window of size x size positions, without overlap. Derivation: docs/backprop/pooling.md."""

from basiscli import kernels


def forward(p, x, train, size):
    """y[i, j] = mean over the window's positions, for each unit; `size` divides the image's sides."""
    return kernels.of(x).average_pool(x, size), size


def backward(dy, cache, need_dx, dp):
    """dx = dy / size² at every position of the window."""
    return kernels.of(dy).average_pool_gradient(dy, cache)
