"""y = the largest value of each window of size x size positions, without overlap.

Derivation: docs/backprop/pooling.md.
"""

from basiscli import kernels


def forward(p, x, train, size):
    """y[i, j] = max over the window's positions, for each unit; `size` divides the image's sides."""
    y, argmax = kernels.of(x).max_pool(x, size)
    return y, (argmax, x.shape)


def backward(dy, cache, need_dx, dp):
    """dx = dy at the (first) position of the largest value, else 0."""
    argmax, shape = cache
    return kernels.of(dy).max_pool_gradient(dy, argmax, shape)
