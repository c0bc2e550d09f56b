"""Corrections of interpolated networks: the statistics of their units, over a sample of training images.

L networks along a path, K networks at its ends, M images, C units. All statistics are exact over the M images. They
come from one forward pass, in which a node reads the outputs of nodes that are corrected already.
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
# Activations that a forward pass holds at once: a node's input and output, a skip, and the buffer of a kernel.
HELD = 4


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation √(variance + ε) of the units of a node's output, (L or K, C) each."""

    mean: np.ndarray
    deviation: np.ndarray


def default(network: Network) -> str:
    """Return the correction that a network needs: `reset-bn`, or `repair` if it has no BatchNorm."""
    return RESET if _has_batchnorm(network) else REPAIR


def require_possible(network: Network, corrections: Sequence[str]) -> None:
    """Raise BadInput for a reset of BatchNorm in a network that has none."""
    if RESET in corrections and not _has_batchnorm(network):
        raise BadInput(f"{RESET}: the networks have no BatchNorm to reset; take `correct` {REPAIR}")


def sample(split: Split, standard: Standardisation, count: int, seed: int) -> np.ndarray:
    """Return (1, M, H, W, C): `count` images of a split (all if it has fewer), standardised, without shifts."""
    chosen = generator(seed, "correct").permutation(len(split.labels))[:count]
    return batch(split, np.sort(chosen)[None], np.zeros((1, len(chosen), 2), np.int64), standard)


def bytes_per_network(network: Network, images: int) -> int:
    """Return about how much memory the correction of a network takes, in bytes."""
    return cost.FLOAT_BYTES * (cost.parameters(network) + HELD * images * cost.largest(network))


def correct(
    name: str,
    network: Network,
    arrays: dict[str, np.ndarray],
    ends: Sequence[Mapping[str, np.ndarray]],
    shares: np.ndarray,
    images: np.ndarray,
) -> None:
    """Correct in place the arrays (L, ...) that `weights.mix` made from the ends with the shares (L, K)."""
    if name == RESET:
        reset_batchnorm(network, arrays, images)
    elif name == REPAIR:
        repair(network, arrays, targets([statistics(network, end, images) for end in ends], shares), images)


def reset_batchnorm(network: Network, arrays: dict[str, np.ndarray], images: np.ndarray) -> None:
    """Set BatchNorm's running statistics to mean and variance over the images (1, M, H, W, C), in place.

    Inference on these images then gives the output of training with all M images as one batch.
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

    y' = d (y - m) / s + m' is folded into the node that computes y: into scale and shift of a normalisation, or into
    weights and bias of a map. Both folds are exact.
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
    """Return the statistics, in inference, of the nodes that `repair` rescales, by node."""
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
    """Return the nodes that `repair` rescales: normalisations, and maps with a bias that no normalisation reads.

    The logits are not among them. These nodes compute the preactivations and, without normalisation, also the terms of
    a residual stream.
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
    # BatchNorm's ε avoids a division by 0 for a constant unit. It is in both deviations, so the gain is 1 at the ends.
    return np.sqrt(variance + variance.dtype.type(batchnorm.EPSILON))
