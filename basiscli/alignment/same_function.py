"""Whether two networks compute the same function: by how much their logits differ."""

import numpy as np

# Two networks are one function if no logit differs by more than this part of the largest: rounding may change as much.
TOLERANCE = 1e-3


def logit_difference(before: np.ndarray, after: np.ndarray) -> float:
    """Return the largest change of a logit over the largest logit, max |after - before| / max |before|.

    It is 0 if nothing changes, also if all logits are 0, and NaN if a logit is NaN.
    """
    largest = max(float(np.abs(before).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(after - before).max()) / largest
