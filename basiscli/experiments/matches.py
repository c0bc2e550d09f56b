"""Networks in the basis of the first network, as records (docs/match.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from basiscli.alignment import matching
from basiscli.files import kinds
from basiscli.files.networks import load, save_network
from basiscli.files.permutations import save_permutations


def match_files(
    paths: Sequence[str],
    request: matching.MatchRequest,
    *,
    targets: Mapping[str, Path],
    out: Path | None = None,
    command: str = "",
    force: bool = False,
) -> Iterator[dict]:
    """Yield the records of each network after the first, after its function is proven unchanged and its file written.

    targets: by path of a network, where its permuted copy is written. The permutations go into `out`. Raises BadInput
    for networks that do not fit together, and if a file to be written exists, unless `force`.
    """
    for target in targets.values():
        kinds.require_target(target, kinds.NETWORK, force, paths)
    if out:
        kinds.require_target(out, kinds.results_of("match"), force, paths)
    networks = [load(path) for path in paths]
    reference, *others = networks
    alignments = []
    images = None
    for other, alignment in zip(others, matching.align_all(networks, request), strict=True):
        images = matching.proof_images(reference, request.dataset) if images is None else images
        moved, difference = matching.apply(other, alignment.permutations, images)
        written = targets.get(other.path)
        if written:
            origin = {"made": "match", "of": [reference.path, other.path], "by": request.by}
            save_network(written, replace(moved.file, command=command, origin=origin), force)
        alignments.append(alignment)
        for group in (*alignment.groups, alignment.total):
            record = {"a": reference.path, "b": other.path, "by": request.by, **asdict(group)}
            record |= {"restarts": request.restarts if request.searches else 0, "logit_difference": difference}
            yield record | ({"path": str(written)} if written else {})
    if out:
        save_permutations(out, paths, [matched.permutations for matched in alignments], asdict(request), force)
