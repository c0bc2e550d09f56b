"""Networks in files."""

from pathlib import Path

import numpy as np

from basiscli.files.networks import load_network


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    """Return the weights and the state of a network file."""
    file = load_network(path)
    return file.weights | file.state


def assert_same_networks(one: Path, two: Path) -> None:
    """Both files hold bitwise the same training result."""
    first, second = load_network(one), load_network(two)
    assert first.status == second.status == "done"
    for part in ("weights", "state", "history"):
        mine, other = getattr(first, part), getattr(second, part)
        assert list(mine) == list(other)
        for name in mine:
            np.testing.assert_array_equal(mine[name], other[name], err_msg=name)
