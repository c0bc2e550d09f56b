"""Permutations of units in HDF5, which bring networks into the basis of a reference network (docs/match.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basiscli.analysis import assignment
from basiscli.errors import BadInput
from basiscli.files import hdf5, schema, writer
from basiscli.nn.unit_groups import UnitGroups
from basiscli.notes import log


@dataclass(frozen=True)
class StoredPermutations:
    """Permutations of several networks to a reference. `files` has the reference first, then the others in order."""

    path: str
    files: tuple[str, ...]
    permutations: tuple[dict[str, np.ndarray], ...]

    def between(self, a: str, b: str) -> dict[str, np.ndarray]:
        """Return the permutations that bring the network of file b into the basis of the network of file a.

        A single permutation also serves files with other names, and a note says so. Raises BadInput if there are
        several permutations and a name is not in `files`.
        """
        places = {Path(name).resolve(): place for place, name in enumerate(self.files)}
        i, j = (places.get(Path(name).resolve()) for name in (a, b))
        if i is not None and j is not None:
            all_of_them = [
                assignment.identities({g: len(p) for g, p in self.permutations[0].items()}),
                *self.permutations,
            ]
            return assignment.relative(all_of_them[i], all_of_them[j])
        if len(self.permutations) == 1:
            made = " and ".join(self.files)
            log.warning(f"{self.path}: was made for {made}; used for {a} and {b}")
            return self.permutations[0]
        raise BadInput(
            f"{self.path}: holds permutations of {', '.join(self.files)}: none of {b if i is not None else a}"
        )


def save_permutations(
    path: str | Path,
    files: Sequence[str],
    permutations: Sequence[Mapping[str, np.ndarray]],
    how: Mapping[str, object],
    force: bool = False,
) -> None:
    """Write the permutations that match networks to the first of `files`, and the request `how` (docs/match.md)."""
    arrays = {
        f"permutations/{k}/{group}": p
        for k, of_network in enumerate(permutations, 1)
        for group, p in of_network.items()
    }
    writer.save_arrays(path, arrays, {"analysis": "match", "match": {"files": list(files), **how}}, force)


def load_permutations(path: str | Path, groups: UnitGroups) -> StoredPermutations:
    """Return the permutations in a file of `save_permutations`.

    Raises BadInput for another kind of file, a damaged file, and groups that differ from the groups of the networks.
    """
    with hdf5.reading(path) as file:
        attributes = schema.read(schema.ResultAttributes, file) if file.kind == hdf5.RESULTS else None
        if attributes is None or attributes.analysis != "match":
            raise BadInput(f"{path}: holds no permutations (`basiscli match` writes them into `out`)")
        if not attributes.match:
            raise BadInput(f"{path}: lacks the attribute match; make the file anew")
        files = tuple(attributes.match["files"])
        stored = []
        for k in range(1, len(files)):
            _require_fit(path, file.datasets(f"permutations/{k}"), groups)
            stored.append(file.arrays(f"permutations/{k}"))
            _require_permutations(path, stored[-1])
    if not stored:
        raise BadInput(f"{path}: holds no permutations")
    return StoredPermutations(
        str(path), files, tuple({g: p.astype(np.int64) for g, p in of_network.items()} for of_network in stored)
    )


def _require_fit(path: str | Path, permutations: Mapping[str, Any], groups: UnitGroups) -> None:
    """Raise BadInput unless the arrays of a network have the shapes of its groups. The arrays need not be read."""
    sizes: dict[str, int | tuple[int, ...]] = {
        group: len(p) if p.ndim == 1 else p.shape for group, p in permutations.items()
    }
    if sizes != groups.groups:
        group = next(name for name in [*sizes, *groups.groups] if sizes.get(name) != groups.groups.get(name))
        raise BadInput(
            f"{path}: permutes {group} of {sizes.get(group, 0)} units, "
            f"the networks have {groups.groups.get(group, 0)}: made for another architecture"
        )


def _require_permutations(path: str | Path, permutations: Mapping[str, np.ndarray]) -> None:
    for group, p in permutations.items():
        if p.dtype.kind not in "iu" or not np.array_equal(np.sort(p), np.arange(len(p))):
            raise BadInput(f"{path}: {group}: not a permutation of its {len(p)} units")
