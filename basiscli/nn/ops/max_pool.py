"""y = the largest value of each window of size x size positions. Derivation: docs/backprop/pooling.md."""

from basiscli import kernels


def forward(p, x, train, size, stride, padding):
    """y[i, j] = max over the window's positions inside of the image, for each unit.

    The window begins at (stride i - padding, stride j - padding).
    """
    y, argmax = kernels.of(x).max_pool(x, size, stride, padding)
    return y, (argmax, x.shape, size, stride, padding)


def backward(dy, cache, need_dx, dp):
    """dx = the sum of dy over the windows in which x was the (first) largest value."""
    argmax, shape, size, stride, padding = cache
    return kernels.of(dy).max_pool_gradient(dy, argmax, shape, size, stride, padding)
