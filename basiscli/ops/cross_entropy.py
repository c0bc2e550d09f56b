"""loss = -mean_n log softmax(logits)[n, label_n], one value a seed. Derivation: docs/backprop/cross_entropy.md."""

from basiscli import kernels


def forward(logits, labels):
    """Return the loss (S,) float64, the hits (S,), and the cache: logits (S, N, K), labels (S or 1, N)."""
    loss, hits, dlogits = kernels.of(logits).cross_entropy(logits, labels)
    return loss, hits, dlogits


def backward(cache):
    """dlogits = (softmax(logits) - onehot(label)) / N; the kernel has them from the forward pass."""
    return cache
