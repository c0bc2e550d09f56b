"""Paths between networks: loss and accuracy along θ(λ), many λ of a pair at once (docs/connectivity.md).

L values of λ, K networks, M images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from basiscli.alignment import corrections, matching
from basiscli.analysis.barriers import Curve, evenly
from basiscli.data import Dataset, Split
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files.networks import DONE, Loaded, NetworkFile, load, versions
from basiscli.nn import cost, weights
from basiscli.nn.graph import Network, predict
from basiscli.rng import generator
from basiscli.training.evaluation import evaluate
from basiscli.training.images import Standardisation

# Images that networks are evaluated on.
SPLITS = ("test", "train")
# Training images that corrections use.
CORRECT_ON = 2000
# Part of the free memory that the networks of a path may take together.
MEMORY_PART = 0.25
# Floats that the largest activation of these networks may have together. Two ResNet-20 of width 1 at a time take two
# thirds of the processor time of 25 at a time, because the activations of 25 leave the cache between nodes.
ACTIVE_FLOATS = 2 * cost.EVALUATION_FLOATS

Permutations = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Walk:
    """A walk: values of λ (L,), the splits to evaluate by name, images (1, M, H, W, C) for corrections."""

    lambdas: np.ndarray
    splits: Mapping[str, Split]
    standard: Standardisation
    images: np.ndarray
    temperature: float = 1.0


@dataclass(frozen=True)
class WalkedPair:
    """Networks a and b, by number, under one condition: their curve on each split.

    difference: the largest change of a logit by the permutation of b, over the largest logit.
    """

    a: int
    b: int
    match: str
    correct: str
    difference: float
    curves: Mapping[str, Curve]


def load_alike(paths: Sequence[str], dataset: str | None = None) -> list[Loaded]:
    """Return networks that a path can connect. dataset: where their data set is now, if it has moved.

    Raises BadInput for fewer than two networks, for a network that diverged or is broken, and if architectures or data
    differ.
    """
    networks = [load(path) for path in paths]
    if len(networks) < 2:
        raise BadInput(f"{paths[0]}: a path needs two networks or more (a file that is named twice counts once)")
    matching.require_alike(networks)
    return [_moved(loaded, dataset) for loaded in networks] if dataset else networks


def prepare_walk(
    networks: Sequence[Loaded],
    dataset: Dataset,
    splits: Sequence[str],
    *,
    correct_on: int,
    seed: int,
    points: int = 3,
    samples: int | None = None,
    temperature: float = 1.0,
) -> Walk:
    """Return a walk that evaluates `samples` images of each split (None: all).

    correct_on: the number of training images for corrections. Raises BadInput for a network that gives the same logits
    for every image.
    """
    standard = networks[0].standard
    images = corrections.sample(dataset.train, standard, correct_on, seed)
    for loaded in networks:
        _require_alive(loaded, images)
    parts = {name: _part(getattr(dataset, name), samples, seed) for name in splits}
    return Walk(evenly(points), parts, standard, images, temperature)


def requests(names: Sequence[str], **options) -> dict[str, matching.MatchRequest]:
    """Return a request for each way to match, with the options that are not None."""
    given = {name: value for name, value in options.items() if value is not None}
    return {name: matching.MatchRequest(by=name, **given) for name in names}


def alignments(
    networks: Sequence[Loaded], asked: Mapping[str, matching.MatchRequest]
) -> Iterator[tuple[str, dict[tuple[int, int], Permutations]]]:
    """Yield, for each request by name, the permutations that bring b into a's basis, for all pairs a < b."""
    moments_of_all = None
    for name, request in asked.items():
        if request.needs_moments:
            moments_of_all = moments_of_all or matching.moments(networks, request)
        aligned: dict[tuple[int, int], Permutations] = {}
        for a, b in combinations(range(len(networks)), 2):
            of_pair = matching.pair(moments_of_all, a, b) if moments_of_all and request.needs_moments else None
            aligned[a, b] = matching.align(networks[a], networks[b], request, of_pair).permutations
        yield name, aligned


def walk_pairs(
    walk: Walk,
    networks: Sequence[Loaded],
    match: str,
    aligned: Mapping[tuple[int, int], Permutations],
    corrected: Sequence[str],
) -> Iterator[WalkedPair]:
    """Yield every pair under every correction, after proof that the permuted network computes the same function."""
    images = matching.proof_images(networks[0])
    for (a, b), permutations in aligned.items():
        moved, difference = matching.apply(networks[b], permutations, images)
        ends = [networks[a].arrays, moved.arrays]
        for correct in corrected:
            yield WalkedPair(a, b, match, correct, difference, curves(walk, networks[a].network, ends, correct))


def curves(walk: Walk, network: Network, ends: Sequence[Mapping[str, np.ndarray]], correct: str) -> dict[str, Curve]:
    """Return the curve on each split between two networks, arrays (1, ...); several values of λ run at once."""
    shares = np.stack([1 - walk.lambdas, walk.lambdas], axis=1)
    size = _at_once(network, walk.images.shape[1] if correct != corrections.NONE else 0)
    measured: dict[str, list] = {name: [] for name in walk.splits}
    for start in range(0, len(shares), size):
        arrays = mixed(walk, network, ends, shares[start : start + size], correct)
        for name, split in walk.splits.items():
            measured[name].append(evaluate(network, _tempered(network, arrays, walk.temperature), split, walk.standard))
    return {name: Curve(walk.lambdas, *np.concatenate(parts, axis=1)) for name, parts in measured.items()}


def mixed(
    walk: Walk, network: Network, ends: Sequence[Mapping[str, np.ndarray]], shares: np.ndarray, correct: str
) -> dict[str, np.ndarray]:
    """Return Σ_k shares[l, k] θ_k of K networks θ_k, arrays (1, ...), after correction: arrays (L, ...)."""
    ends, shares = [placement.tree_to_device(end) for end in ends], placement.to_device(shares)
    arrays = weights.mix(ends, shares)
    corrections.correct(correct, network, arrays, ends, shares, walk.images)
    return arrays


def merge(
    walk: Walk, networks: Sequence[Loaded], request: matching.MatchRequest, correct: str, shares: np.ndarray
) -> tuple[NetworkFile, dict[str, np.ndarray]]:
    """Return the corrected mean of networks with shares (K,), each matched to the first, and its scores.

    The scores are loss and accuracy by field: a value for each network, then the value of the mean. The file is that of
    the first network with other arrays, history and origin.
    """
    first, images = networks[0], matching.proof_images(networks[0])
    ends = [first.arrays]
    for other, alignment in zip(networks[1:], matching.align_all(networks, request), strict=True):
        ends.append(matching.apply(other, alignment.permutations, images)[0].arrays)
    arrays = mixed(walk, first.network, ends, shares[None], correct)
    # A random stream has no mean.
    arrays |= {path: first.arrays[path] for path, weight in first.network.weights.items() if not weight.axes}
    scores: dict[str, np.ndarray] = {}
    for name, split in walk.splits.items():
        loss, accuracy = zip(
            *(evaluate(first.network, weights_of, split, walk.standard) for weights_of in (*ends, arrays)), strict=True
        )
        scores |= {f"{name}_loss": np.concatenate(loss), f"{name}_accuracy": np.concatenate(accuracy)}
    file = replace(
        first.file,
        status=DONE,
        versions=versions(),
        weights={path: placement.to_host(arrays[path][0]) for path in first.file.weights},
        state={path: placement.to_host(arrays[path][0]) for path in first.file.state},
        optimizer={},
        history={name: values[-1:] for name, values in scores.items()},
        origin={
            "made": "merge", "of": [loaded.path for loaded in networks], "match": request.by, "correct": correct,
            "weights": shares.tolist(),
        },
    )  # fmt: skip
    return file, scores


def _moved(loaded: Loaded, dataset: str) -> Loaded:
    """Return a network whose data set has another name."""
    return replace(loaded, file=replace(loaded.file, dataset=loaded.file.dataset | {"name": dataset}))


def _tempered(network: Network, arrays: dict[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """Return arrays whose logits are divided by a temperature."""
    if temperature == 1:
        return arrays
    last = network.nodes[-1].paths.values()
    return arrays | {path: arrays[path] / arrays[path].dtype.type(temperature) for path in last}


def _at_once(network: Network, images: int) -> int:
    """Return how many networks of a path run at once. Raises BadInput if not even one fits the memory."""
    needed = corrections.bytes_per_network(network, max(images, cost.evaluated_at_once(network)))
    free = placement.available_memory()
    if needed > free:
        raise BadInput(
            f"correcting a network of this size on {images} images needs about {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free; choose a smaller `correct_on`"
        )
    fitting = int(MEMORY_PART * free / needed)
    if not placement.on_gpu():  # which has no such cache, and wants to be filled
        fitting = min(fitting, ACTIVE_FLOATS // (cost.evaluated_at_once(network) * cost.largest(network)))
    return max(1, fitting)


def _part(split: Split, samples: int | None, seed: int) -> Split:
    if samples is None or samples >= len(split.labels):
        return split
    chosen = np.sort(generator(seed, "evaluate").permutation(len(split.labels))[:samples])
    return Split(split.images[chosen], split.labels[chosen])


def _require_alive(loaded: Loaded, images: np.ndarray) -> None:
    logits = predict(loaded.network, loaded.arrays, images[:, : cost.evaluated_at_once(loaded.network)])[0]
    if not np.isfinite(logits).all():
        raise BadInput(f"{loaded.path}: its logits are not finite; leave it out")
    if not np.ptp(logits, axis=1).any():
        raise BadInput(f"{loaded.path}: gives the same logits for every image, its units are dead; leave it out")
