"""What interpolated networks need set right: the statistics of their units, over a sample of training images.

L networks along a path, K networks at its ends, M images, C units. Everything is exact over the M images, from one walk
through the network: what a node sees was computed by nodes below it that are set right already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from basiscli import kernels
from basiscli.data import Split
from basiscli.errors import BadInput
from basiscli.nn import cost
from basiscli.nn.graph import Network, apply_node, forward
from basiscli.nn.ops import batchnorm
from basiscli.rng import generator
from basiscli.training.images import Standardisation, batch

NONE, RESET, REPAIR = "none", "reset-bn", "repair"
CORRECTIONS = (NONE, RESET, REPAIR)
# Activations of a node that a walk holds at once: what it reads, what it gives, a skip, and room for a kernel.
HELD = 4


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation √(variance + ε) of the units of a node's output, (L or K, C) each."""

    mean: np.ndarray
    deviation: np.ndarray


def default(network: Network) -> str:
    """Return what a network needs: its BatchNorm reset, or `repair` where it has none."""
    return RESET if _has_batchnorm(network) else REPAIR


def require_possible(network: Network, corrections: Sequence[str]) -> None:
    """Raise BadInput for a reset of BatchNorm in a network that has none."""
    if RESET in corrections and not _has_batchnorm(network):
        raise BadInput(f"{RESET}: the networks have no BatchNorm to reset; take `correct` {REPAIR}")


def sample(split: Split, standard: Standardisation, count: int, seed: int) -> np.ndarray:
    """Return (1, M, H, W, C): `count` images drawn from a split, all of them if it has fewer, standardised, unmoved."""
    chosen = generator(seed, "correct").permutation(len(split.labels))[:count]
    return batch(split, np.sort(chosen)[None], np.zeros((1, len(chosen), 2), np.int64), standard)


def bytes_per_network(network: Network, images: int) -> int:
    """Return about how much memory a walk takes for each network that it corrects."""
    return cost.FLOAT_BYTES * (cost.parameters(network) + HELD * images * cost.largest(network))


def correct(
    name: str,
    network: Network,
    arrays: dict[str, np.ndarray],
    ends: Sequence[Mapping[str, np.ndarray]],
    shares: np.ndarray,
    images: np.ndarray,
) -> None:
    """Correct in place the arrays (L, ...) that `weights.mix` made of the ends by shares (L, K)."""
    if name == RESET:
        reset_batchnorm(network, arrays, images)
    elif name == REPAIR:
        repair(network, arrays, targets([statistics(network, end, images) for end in ends], shares), images)


def reset_batchnorm(network: Network, arrays: dict[str, np.ndarray], images: np.ndarray) -> None:
    """Set BatchNorm's running statistics to mean and variance over the images (1, M, H, W, C), in place.

    Over these images the networks in use then compute what they would in training with all M as one batch.
    """

    def run(node, p, inputs):
        if node.op is not batchnorm:
            return apply_node(node, p, inputs)
        y, p["mean"][...], p["variance"][...] = _normalised(inputs[0], p["scale"], p["shift"])
        return y

    forward(network, arrays, images, run=run)


def repair(
    network: Network, arrays: dict[str, np.ndarray], wanted: Mapping[str, Statistics], images: np.ndarray
) -> None:
    """Give the units of nodes the wanted means and deviations over the images (Jordan et al. 2023), in place.

    y' = d (y - m) / s + m', folded into what makes y: scale and shift of a normalisation, weights and bias of a map.
    Both folds are exact.
    """

    def run(node, p, inputs):
        y = apply_node(node, p, inputs)
        if node.name not in wanted:
            return y
        on_batch = wanted[node.name]
        y, mean, variance = _normalised(y, on_batch.deviation, on_batch.mean)
        gain = on_batch.deviation / _deviation(variance)
        factor, offset = ("scale", "shift") if "scale" in p else ("w", "b")
        p[factor] *= gain.reshape(len(gain), *(1,) * (p[factor].ndim - 2), -1)
        p[offset][...] = (p[offset] - mean) * gain + on_batch.mean
        return y

    forward(network, arrays, images, run=run)


def statistics(network: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray) -> dict[str, Statistics]:
    """Return the statistics of what `repair` rescales, by node, of networks in use."""
    moments_of, wanted = {}, places(network)

    def run(node, p, inputs):
        y = apply_node(node, p, inputs)
        if node.name in wanted:
            ones = np.ones_like(y, shape=(len(y), y.shape[-1]))
            _, mean, variance = _normalised(y, ones, 0 * ones)
            moments_of[node.name] = Statistics(mean, _deviation(variance))
        return y

    forward(network, arrays, images, run=run)
    return moments_of


def targets(ends: Sequence[Mapping[str, Statistics]], shares: np.ndarray) -> dict[str, Statistics]:
    """Return Σ_k shares[l, k] of the ends' means and of their deviations, (L, C) each, by node."""

    def mixed(name: str, field: str) -> np.ndarray:
        values = np.concatenate([getattr(end[name], field) for end in ends])
        return (shares @ values).astype(values.dtype)

    return {name: Statistics(mixed(name, "mean"), mixed(name, "deviation")) for name in ends[0]}


def places(network: Network) -> list[str]:
    """Return the nodes that `repair` rescales: normalisations, and maps with a bias that none reads; not the logits.

    Those are the preactivations, and where there is no normalisation also what is added to a residual stream.
    """
    normalised = {node.inputs[0] for node in network.nodes if "scale" in node.weights}
    return [
        node.name
        for node in network.nodes[:-1]
        if "scale" in node.weights or ("b" in node.weights and node.name not in normalised)
    ]


def _has_batchnorm(network: Network) -> bool:
    return any(node.op is batchnorm for node in network.nodes)


def _normalised(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scale (x - m) / √(v + ε) + shift, m and v, over all axes but the first and the last."""
    return kernels.of(x).batchnorm(x, scale, shift, batchnorm.EPSILON)


def _deviation(variance: np.ndarray) -> np.ndarray:
    # BatchNorm's ε keeps a unit that never varies from being divided by 0; in both deviations, it is 1 at the ends.
    return np.sqrt(variance + variance.dtype.type(batchnorm.EPSILON))
