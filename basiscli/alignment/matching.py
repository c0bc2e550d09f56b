"""Networks brought into one basis: the permutations of units, and the proof that the function did not change.

Docs: docs/match.md. The first of several networks is the reference. Its unit i corresponds to unit p[i] of the other.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basiscli.alignment.same_function import TOLERANCE, logit_difference
from basiscli.analysis import assignment, passes
from basiscli.analysis.moments import Moments, merge
from basiscli.data import Dataset, Split
from basiscli.errors import BadInput
from basiscli.files import activations
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import DIVERGED, Loaded, differing, initial_arrays, require_finite
from basiscli.files.permutations import load_permutations
from basiscli.nn import cost
from basiscli.nn.graph import predict
from basiscli.nn.unit_groups import UnitGroups, permute_units, unit_groups
from basiscli.training.images import probe_batch

ACTIVATIONS, WEIGHTS, BOTH = WAYS = ("activations", "weights", "both")
NONE = "none"
MATCHES = (NONE, *WAYS)
CORRELATION, PRODUCT = SIMILARITIES = ("correlation", "product")
RESTARTS = 8
SAMPLES = 10_000
# Images on which a permuted network must give the same logits.
PROBED = 500

Permutations = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class MatchRequest:
    """How to match.

    by: activations, weights, both, none, or the path of stored permutations. similarity: of activations, correlation or
    product. from_init: weights count as their change since initialisation. Activations are taken on `samples` images of
    a split (None: all), evenly spread. dataset: where the data set is now, if it has moved.
    """

    by: str = WEIGHTS
    restarts: int = RESTARTS
    seed: int = 0
    similarity: str = CORRELATION
    from_init: bool = False
    split: str = "train"
    samples: int | None = SAMPLES
    dataset: str | None = None

    @property
    def needs_moments(self) -> bool:
        """Whether activations are needed."""
        return self.by in (ACTIVATIONS, BOTH)

    @property
    def searches(self) -> bool:
        """Whether matching takes a coordinate descent."""
        return self.by in (WEIGHTS, BOTH)


@dataclass(frozen=True)
class GroupReport:
    """The effect of matching on one group; docs/match.md has the fields. None where a field was not computed."""

    group: str
    units: int
    layers: str
    moved: int
    objective_before: float
    objective_after: float
    correlation_before: float | None
    correlation_after: float | None
    iterations: int
    agreed: int


@dataclass(frozen=True)
class Alignment:
    """Permutations by group, with a report on each group, and on all groups together."""

    permutations: dict[str, np.ndarray]
    groups: tuple[GroupReport, ...]
    total: GroupReport


def require_alike(networks: Sequence[Loaded]) -> None:
    """Raise BadInput unless networks have one architecture, saw the same data, did not diverge and are finite."""
    first = networks[0]
    for other in networks:
        theirs, ours = other.network.architecture, first.network.architecture
        if name := differing(theirs, ours):
            has = f"has {name} {theirs.get(name)}, {first.path} has {ours.get(name)}"
            raise BadInput(
                f"{other.path}: {has if name in ours else f'is {name}, {first.path} is not'}: "
                "units can be matched one to one in networks of the same architecture only"
            )
        if other.file.dataset.get("checksum") != first.file.dataset.get("checksum"):
            raise BadInput(f"{other.path}: was trained on other data than {first.path}")
        for theirs, ours in zip(vars(other.standard).values(), vars(first.standard).values(), strict=True):
            if not np.array_equal(theirs, ours):
                raise BadInput(f"{other.path}: its images were standardised otherwise than those of {first.path}")
        if other.file.status == DIVERGED:
            raise BadInput(f"{other.path}: diverged in training; leave it out, or train it with a smaller `lr`")
        require_finite(other)


def moments(networks: Sequence[Loaded], request: MatchRequest, star: bool = False) -> list[passes.LayerMoments]:
    """Return the moments of every layer of networks that are alike, after its nonlinearity, from one pass.

    star: only the products of the first network with each other network.
    """
    images = _thinned(dataset_of(networks[0], request.dataset), request.split, request.samples)
    opened = [
        activations.of_network(
            loaded.path, loaded.network, loaded.arrays, loaded.standard, images, request.split, "post"
        )
        for loaded in networks
    ]
    reading = passes.Reading(request.seed, memory=sys.maxsize)  # all moments are kept, so nothing comes in blocks
    return list(passes.layer_moments(opened, reading, star))


def pair(layers: Sequence[passes.LayerMoments], i: int, j: int) -> dict[str, Moments]:
    """Return the moments of networks i < j alone, by layer, over all rows."""
    return {layer.layer: merge([half.pair(i, j) for half in layer.halves]) for layer in layers}


def align(
    reference: Loaded,
    other: Loaded,
    request: MatchRequest,
    of_pair: Mapping[str, Moments] | None = None,
) -> Alignment:
    """Return the permutations that bring a network into the reference's basis.

    of_pair: the moments of the two networks, from `pair`; if they are needed and None, they are computed. Raises
    BadInput for networks that are not alike, for initial weights that cannot be drawn again, and as `load` does.
    """
    require_alike([reference, other])
    groups = unit_groups(reference.network)
    if of_pair is None and request.needs_moments:
        of_pair = pair(moments([reference, other], request), 0, 1)
    correlations = assignment.similarities(groups.groups, groups.layers, of_pair) if of_pair else None
    before = assignment.identities(groups.groups)
    if request.needs_moments:
        assert of_pair and correlations  # computed above
        tables = correlations
        if request.similarity == PRODUCT:
            tables = assignment.similarities(groups.groups, groups.layers, of_pair, assignment.products)
        after = assignment.matched(tables)
    elif request.by in (NONE, WEIGHTS):
        after = before
    else:
        after = load_permutations(request.by, groups).between(reference.path, other.path)
    f, search = _objective(groups, reference, other, request.from_init), None
    if request.searches:
        starts = assignment.starts(groups.groups, request.restarts, request.seed, after, fixed=request.by == BOTH)
        search = assignment.search(f, starts)
        after = search.best.permutations
    reports = _reports(groups, f, (before, after), search, correlations)
    return Alignment(after, reports, _total(reports, f.cosine(before), f.cosine(after), search))


def align_all(networks: Sequence[Loaded], request: MatchRequest) -> Iterator[Alignment]:
    """Yield, for each network after the first, the alignment that brings it into the basis of the first."""
    reference, *others = networks
    require_alike(networks)
    layers = moments(networks, request, star=True) if request.needs_moments else None
    for k, other in enumerate(others, 1):
        yield align(reference, other, request, pair(layers, 0, k) if layers else None)


def proof_images(loaded: Loaded, dataset: str | None = None) -> np.ndarray:
    """Return images (1, n, H, W, C) to prove a permutation on: some of the test images, standardised, evenly spread."""
    images = _thinned(dataset_of(loaded, dataset), "test", PROBED).test
    return probe_batch(images, loaded.standard, range(len(images.labels)))[0]


def apply(
    other: Loaded, permutations: Mapping[str, np.ndarray], images: np.ndarray, origin: Mapping | None = None
) -> tuple[Loaded, float]:
    """Return a network with its units permuted, and the largest change of a logit over the largest logit.

    images (1, n, H, W, C). origin: how the network was made, for its file. Raises BadInput if the change is larger than
    TOLERANCE, because the network then computes another function.
    """
    groups = unit_groups(other.network)
    moves = {group: p[None] for group, p in permutations.items()}
    arrays = permute_units(groups, other.arrays, moves)
    size = cost.evaluated_at_once(other.network)
    parts = [images[:, first : first + size] for first in range(0, images.shape[1], size)]
    logits = [
        np.concatenate([predict(other.network, arrays_of, x)[0] for x in parts], 1)
        for arrays_of in (other.arrays, arrays)
    ]
    changed = logit_difference(*logits)
    if not changed <= TOLERANCE:
        raise BadInput(f"{other.path}: permuted, its logits differ by {changed:.1e} of the largest: nothing is kept")
    slots = {
        slot: permute_units(groups, other.arrays | {path: values[None] for path, values in held.items()}, moves)
        for slot, held in other.file.optimizer.items()
    }
    file = replace(
        other.file,
        weights={path: arrays[path][0] for path in other.file.weights},
        state={path: arrays[path][0] for path in other.file.state},
        optimizer={
            slot: {path: moved[path][0] for path in other.file.optimizer[slot]} for slot, moved in slots.items()
        },
        origin=dict(origin or {}),
    )
    return replace(other, file=file, arrays=arrays), changed


def _objective(groups: UnitGroups, reference: Loaded, other: Loaded, from_init: bool) -> assignment.Objective:
    """Return the objective over the trained arrays, or over their change since initialisation."""
    counted = []
    for loaded in (reference, other):
        start = initial_arrays(loaded, "from_init") if from_init else dict.fromkeys(loaded.network.trained, 0)
        counted.append({path: loaded.arrays[path][0] - start[path] for path in loaded.network.trained})
    return assignment.objective(groups.groups, groups.axes, *counted)


def _reports(
    groups: UnitGroups,
    f: assignment.Objective,
    ends: Sequence[Permutations],
    search: assignment.Search | None,
    tables: Mapping | None,
) -> tuple[GroupReport, ...]:
    """Return the report on each group; ends: the permutations before and after, tables: correlations."""
    cosines = [f.cosines(dict(p)) for p in ends]
    means = [
        {g: float(tables[g][np.arange(len(p)), p].mean()) for g, p in permutations.items()} if tables else {}
        for permutations in ends
    ]
    after = ends[1]
    return tuple(
        GroupReport(
            group=group,
            units=units,
            layers=",".join(
                name for name, held in groups.layers.items() if group in [permutations.group for permutations in held]
            ),
            moved=int(np.count_nonzero(after[group] != np.arange(units))),
            objective_before=cosines[0][group],
            objective_after=cosines[1][group],
            correlation_before=means[0].get(group),
            correlation_after=means[1].get(group),
            iterations=search.best.steps[group] if search else 0,
            agreed=search.same[group] if search else 1,
        )
        for group, units in groups.groups.items()
    )


def _total(
    reports: Sequence[GroupReport], before: float, after: float, search: assignment.Search | None
) -> GroupReport:
    """Return the report of all groups together; the correlation is the mean over all units."""

    def mean(name: str) -> float | None:
        values = [getattr(report, name) for report in reports]
        return None if None in values else float(np.average(values, weights=[report.units for report in reports]))

    return GroupReport(
        group="all",
        units=sum(report.units for report in reports),
        layers="",
        moved=sum(report.moved for report in reports),
        objective_before=before,
        objective_after=after,
        correlation_before=mean("correlation_before"),
        correlation_after=mean("correlation_after"),
        iterations=sum(report.iterations for report in reports),
        agreed=search.agreed if search else 1,
    )


def _thinned(dataset: Dataset, split: str, samples: int | None) -> Dataset:
    """Return a data set with some images of one split, evenly spread over it (all of them if None or too many)."""
    name = split.partition("-")[0]
    part = getattr(dataset, name)
    count = len(part.labels)
    if samples is None or samples >= count:
        return dataset
    chosen = np.arange(samples) * count // samples
    return replace(dataset, **{name: Split(part.images[chosen], part.labels[chosen])})  # type: ignore[arg-type]
