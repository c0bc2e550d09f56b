"""Networks in files."""

from pathlib import Path

import numpy as np

from basiscli.files.networks import load_network


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    """Return the weights and the state of a network file."""
    file = load_network(path)
    return file.weights | file.state


def assert_same_networks(one: Path, two: Path, status: str = "done") -> None:
    """Both files hold bitwise the same training result, or stand at the same place on the way to it."""
    first, second = load_network(one), load_network(two)
    assert first.status == second.status == status and first.position == second.position
    parts = [(getattr(first, part), getattr(second, part)) for part in ("weights", "state", "history")]
    parts += [(values, second.optimizer[slot]) for slot, values in first.optimizer.items()]
    for mine, other in parts:
        assert list(mine) == list(other)
        for name in mine:
            np.testing.assert_array_equal(mine[name], other[name], err_msg=name)
