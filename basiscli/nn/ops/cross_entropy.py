"""loss = -mean_n Σ_k target[n, k] log softmax(logits)[n, k], one value for each seed.

Derivation: docs/backprop/cross_entropy.md.
"""

from basiscli import kernels


def forward(logits, labels, smoothing=0.0):
    """Return the loss (S,) float64, the hits (S,), and the cache: logits (S, N, K), labels (S or 1, N).

    target = (1 - smoothing) onehot(label) + smoothing / K (Szegedy et al. 2016).
    """
    loss, hits, dlogits = kernels.of(logits).cross_entropy(logits, labels, smoothing)
    return loss, hits, dlogits


def backward(cache):
    """dlogits = (softmax(logits) - target) / N, which the kernel computed in the forward pass."""
    return cache
