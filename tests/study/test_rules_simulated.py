"""How often the rules are right and wrong on simulated studies of six networks (docs/decisions/verdicts.md)."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from basiscli.study.rules import c1, c2, c3
from basiscli.study.verdict import MIXED, NOT_APPLICABLE, REFUTED, SHOWN, UNDECIDED, UNINFORMATIVE
from tests.helpers import planted

STUDIES, NETWORKS = 400, 6
DRAWS = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "skewed": lambda rng, size: rng.exponential(size=size) - 1,
}


def rotated(rng, draw, rho: float, spread: float, layers: int = 3) -> list[dict]:
    """Records of C1: layers have `rho` each, networks and layers vary about it."""
    found = []
    for record in planted.rotations([0] * layers, [0] * layers, [0] * layers):
        if record["over"] == "permutation":
            twin = record["activation"] == "linear" or not record["trained_epochs"]
            values = (0 if twin else rho) + (0.005 if twin else spread) * draw(rng, NETWORKS)
            found.append({**record, "log_loss_ratios": values.tolist()})
    return found


def paired(rng, draw, share: float) -> list[dict]:
    """Records of C2: networks add to the correlation of their pairs, and pairs have noise."""
    found = []
    for width, condition in planted.SHARES:
        zero = condition in ("linear", "untrained")
        for layer in planted.LAYERS:
            own = 0.006 * draw(rng, NETWORKS)
            for a, b in combinations(range(NETWORKS), 2):
                level = 0.4 * (0 if zero else share) + own[a] + own[b] + 0.004 * rng.standard_normal()
                found.append(
                    {"width": width, "condition": condition, "a": str(a), "b": str(b), "layer": layer, "units_a": width,
                     "matched_held_out": 0.4 + level, "standardised_rotated_held_out_mean": 0.4,
                     "standardised_aligned_held_out": 0.8}
                )  # fmt: skip
    return found


def frozen(rng, draw, axes: float) -> list[dict]:
    """Records of C3: three donors vary about a rise of the space of 0.05 and of the axes of `axes`."""
    found = []
    for seed in range(3):
        space, excess = 0.05 + 0.004 * draw(rng, None), axes + 0.004 * draw(rng, None)
        rises = {"rise": space + excess, "ceiling_rise": space, "standardised_excess_rise": excess}
        found.append({"donor": "trained", "donor_seed": seed, "prefix": 1, "layer": "hidden2", "units": 64,
                      "networks": NETWORKS, **rises, "share_rise": 2.5 * excess})  # fmt: skip
    return [*found, {**found[0], "donor": "initial"}]


def counted(judge, make, draws: str, *arguments: float) -> Counter:
    rng = np.random.default_rng(7)
    return Counter(judge(make(rng, DRAWS[draws], *arguments)).verdict for _ in range(STUDIES))


def rate(found: Counter, *verdicts: str) -> float:
    return sum(found[verdict] for verdict in verdicts) / STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("draws", DRAWS)
def test_c1_simulated(draws):
    none = counted(c1.judge, rotated, draws, 0.0, 0.02)
    assert rate(none, SHOWN) <= 0.06 and rate(none, UNINFORMATIVE) <= 0.06, none
    some = counted(c1.judge, rotated, draws, 0.3, 0.1)
    assert rate(some, SHOWN) >= 0.9 and rate(some, REFUTED) == 0, some
    print("C1", draws, none, some)


@pytest.mark.slow
@pytest.mark.parametrize("draws", DRAWS)
def test_c2_simulated(draws):
    none, some, near = (counted(c2.judge, paired, draws, share) for share in (0.0, 0.25, 0.95))
    print("C2", draws, none, some, near)
    assert rate(none, SHOWN) <= 0.06 and rate(none, NOT_APPLICABLE, MIXED, UNDECIDED, UNINFORMATIVE) >= 0.94, none
    assert rate(some, SHOWN) >= 0.8 and rate(some, REFUTED) == 0, some
    assert rate(near, REFUTED) >= 0.8 and rate(near, SHOWN) == 0, near


@pytest.mark.slow
@pytest.mark.parametrize("draws", DRAWS)
def test_c3_simulated(draws):
    none, some = (counted(lambda r: c3.judge(r)[1], frozen, draws, axes) for axes in (0.0, 0.05))
    print("C3", draws, none, some)
    assert rate(none, SHOWN) <= 0.06 and rate(some, SHOWN) >= 0.9 and rate(some, REFUTED) == 0, (none, some)
