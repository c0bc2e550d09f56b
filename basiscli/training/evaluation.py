"""Loss and accuracy of networks on a split, in bounded memory."""

from collections.abc import Mapping

import numpy as np

from basiscli.data import Split
from basiscli.device import placement
from basiscli.nn import cost
from basiscli.nn.frozen_split import FrozenSplit
from basiscli.nn.graph import Network, forward
from basiscli.nn.ops import cross_entropy
from basiscli.training.images import Standardisation, probe_batch


def evaluate(
    network: Network,
    arrays: Mapping[str, np.ndarray],
    split: Split,
    standard: Standardisation,
    frozen_split: FrozenSplit | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss (S,) and the accuracy (S,) of networks on a split, in bounded memory.

    With the networks' frozen_split, what all seeds share is worked out once. The results are on the host.
    """
    arrays = placement.tree_to_device(arrays)
    loss, hits, count, size = 0.0, 0, len(split.labels), cost.evaluated_at_once(network)
    for start in range(0, count, size):
        images, labels = probe_batch(split, standard, range(start, min(start + size, count)))
        dtype = next(iter(arrays.values())).dtype
        images = images.astype(dtype, copy=False)
        logits = (
            forward(frozen_split.above, arrays, frozen_split.features(images))[0]
            if frozen_split
            else forward(network, arrays, images)[0]
        )
        part_loss, part_hits, _ = cross_entropy.forward(logits, placement.to_device(labels))
        loss, hits = loss + part_loss * labels.shape[1], hits + part_hits
    return placement.to_host(loss) / count, placement.to_host(hits) / count
