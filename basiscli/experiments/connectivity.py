"""Barriers against width, beside the correlation of the same pairs of networks (docs/connectivity.md)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from basiscli.alignment import corrections, interpolation, matching
from basiscli.alignment.interpolation import Permutations
from basiscli.analysis import barriers, nulls
from basiscli.analysis.assess import (
    SCORES,
    SHARE_OF,
    Assessment,
    CorrelationRequest,
    assess_layers,
    bound,
    without_arrays,
)  # fmt: skip
from basiscli.analysis.barriers import Curve
from basiscli.analysis.passes import layer_moments
from basiscli.analysis.statistics import over_networks, share_over_networks
from basiscli.errors import BadInput
from basiscli.experiments import degradation, training
from basiscli.experiments.degradation import Degraded
from basiscli.experiments.training import TrainingJob
from basiscli.experiments.training_loop import alone_in, make_folder
from basiscli.files import activations
from basiscli.files.datasets import dataset_of, load_dataset
from basiscli.files.networks import DIVERGED, DONE, UNFINISHED, Loaded, difference, load_network
from basiscli.nn.unit_groups import unit_groups
from basiscli.notes import log

# Halves, starts of matching and samples are drawn from this seed.
SEED = 0

Pair = tuple[int, int]


@dataclass(frozen=True)
class WidthSweep:
    """How to match, walk between and correlate the networks of each width.

    matching, walking: keywords of `interpolation.requests` and `interpolation.prepare_walk`. corrected None: without
    correction, and with the correction that the networks need. probe: the split to correlate on; "test" shows other
    images than those of matching. degrade: also degrade every match until all widths correlate `degrade_to` (None:
    `degradation.BELOW` less than the lowest width). dataset: where the data set is now, if it has moved.
    memory: bytes that correlating may take, None: most of the free memory.
    """

    matches: Sequence[str]
    matching: Mapping
    corrected: Sequence[str] | None
    splits: Sequence[str]
    walking: Mapping
    probe: str
    tap: str
    positions: str | int
    request: CorrelationRequest
    degrade: bool
    degrade_to: float | None
    dataset: str | None = None
    memory: int | None = None


@dataclass
class Correlations:
    """The correlations of the pairs of a width.

    scores: by pair, the mean over layers of each of SCORES. dead: the mean part of dead units. layers: by pair and
    layer, r (U, U), float32; only if matches are degraded. applied: by match and pair, the mean r of unit i of A and
    unit π(i) of B. images: the number of images, each copy counted. fewest_units: of the smallest layer.
    """

    scores: dict[Pair, dict[str, float | None]] = field(default_factory=dict)
    dead: float = 0.0
    images: int = 0
    fewest_units: int = 0
    layers: dict[Pair, dict[str, np.ndarray]] = field(default_factory=dict)
    applied: dict[str, dict[Pair, float]] = field(default_factory=dict)


def train_widths(job: TrainingJob, widths: Sequence[float]) -> Iterator[tuple[float, list[str]]]:
    """Train the networks that do not exist yet, a folder for each width; yield widths, narrowest first, with networks.

    Raises BadInput before training if a width does not fit the model or another program trains in the folder, and as
    `training.train_networks` does.
    """
    dataset = load_dataset(job.dataset, job.channels)
    plans = {width: training.plan(replace(job, width=width), dataset)[1] for width in sorted(widths)}
    out = job.out or f"{next(iter(plans.values())).out}-connectivity"
    make_folder(Path(out), 0)
    with alone_in(Path(out)):
        for width, planned in plans.items():
            folder = Path(out) / f"width{width:g}"
            log.info(str(folder))
            planned = replace(planned, out=str(folder), resume=not job.force)
            records = list(training.train_networks(planned, go_on="the same command goes on"))
            done = [record["path"] for record in records if record["status"] == DONE]
            if len(done) < 2:
                raise BadInput(f"{folder}: all networks but {len(done)} diverged in training; choose a smaller `lr`")
            yield width, done


def networks_by_width(paths: Sequence[str]) -> list[tuple[float, list[str]]]:
    """Return widths, from the narrowest, each with its network files.

    Networks that diverged are left out, with a line on stderr. Raises BadInput if architectures differ in more than
    their width, or if a width has only one network.
    """
    groups: dict[float, list[str]] = {}
    first = None
    for path in paths:
        file = load_network(path)
        if file.status == DIVERGED:
            log.warning(f"{path}: diverged in training, left out")
            continue
        if file.status == UNFINISHED:
            log.warning(f"{path}: its training is not finished")
        width, rest = _width(file.architecture)
        first = first or (path, rest)
        if different := difference(rest, first[1]):
            raise BadInput(f"{path}: differs from {first[0]} in more than its width ({different})")
        groups.setdefault(width, []).append(path)
    for width, members in groups.items():
        if len(members) < 2:
            raise BadInput(f"{members[0]}: the only network of width {width:g}; pairs need two")
    if not groups:
        raise BadInput("all networks diverged in training")
    return sorted(groups.items())


@dataclass(frozen=True)
class WidthResult:
    """The permutations and correlations of the networks of a width.

    images: the number of images of each match. unmatched: the curves of pairs without a match, by (correct, split).
    """

    width: float
    paths: Sequence[str]
    aligned: Mapping[str, Mapping[Pair, Permutations]]
    images: dict[str, int | None]
    correlations: Correlations
    unmatched: dict[tuple[str, str], dict[Pair, Curve]] = field(default_factory=dict)


def sweep_widths(sweep: WidthSweep, groups: Iterator[tuple[float, list[str]]]) -> Iterator[dict]:
    """Yield a record for each width, match, correction and split: means over pairs with intervals over networks.

    Degraded matches come last, since their common correlation follows from all widths.
    """
    widths = []
    for width, paths in groups:
        networks = interpolation.load_alike(paths, sweep.dataset)
        widths.append(_match_and_correlate(sweep, width, paths, networks))
        for match, permutations in widths[-1].aligned.items():
            yield from _walk(sweep, widths[-1], networks, match, permutations)
    if not sweep.degrade:
        return
    for match in [match for match in widths[0].aligned if match != matching.NONE]:
        goal = sweep.degrade_to
        if goal is None:
            correlated = [result.correlations.applied[match].values() for result in widths]
            goal = min(float(np.mean(list(values))) for values in correlated) - degradation.BELOW
        for result in widths:
            networks = interpolation.load_alike(result.paths, sweep.dataset)
            for degraded in _degraded(sweep, result, networks, match, goal):
                result.correlations.applied[degraded.name] = degraded.applied
                result.images[degraded.name] = result.images[match] if degraded.images is None else degraded.images
                yield from _walk(sweep, result, networks, degraded.name, degraded.permutations, goal)


def _match_and_correlate(
    sweep: WidthSweep, width: float, paths: Sequence[str], networks: Sequence[Loaded]
) -> WidthResult:
    """Match and correlate the networks of a width."""
    log.info(f"width {width:g}: matching")
    requests = interpolation.requests(sweep.matches, seed=SEED, **sweep.matching)
    aligned = dict(interpolation.alignments(networks, requests))
    log.info(f"width {width:g}: correlating")
    training_images = len(dataset_of(networks[0]).train.labels)
    images = {
        name: min(request.samples or training_images, training_images) if request.needs_moments else None
        for name, request in requests.items()
    }
    return WidthResult(width, paths, aligned, images, _correlate(sweep, paths, sweep.probe, aligned, networks[0]))


def _degraded(
    sweep: WidthSweep, result: WidthResult, networks: Sequence[Loaded], match: str, goal: float
) -> Iterator[Degraded]:
    """Yield a degraded match: with partners passed on in a circle and, for activations, from fewer images."""
    segments, r = unit_groups(networks[0].network).layers, result.correlations.layers
    yield degradation.circled(match, segments, r, result.aligned[match], goal)
    request = interpolation.requests([match], seed=SEED, **sweep.matching)[match]
    images = result.images[match]
    if match == matching.ACTIVATIONS and images is not None:
        log.info(f"width {result.width:g}: matching on fewer images")
        yield degradation.fewer_images(match, segments, r, networks, request, images, goal)


def _walk(
    sweep: WidthSweep,
    result: WidthResult,
    networks: Sequence[Loaded],
    match: str,
    aligned: Mapping[Pair, Permutations],
    goal: float | None = None,
) -> Iterator[dict]:
    """Walk all pairs under a match, and yield its records."""
    log.info(f"width {result.width:g}: walking, {match}")
    corrected = sweep.corrected or (corrections.NONE, corrections.default(networks[0].network))
    corrections.require_possible(networks[0].network, corrected)
    walk = interpolation.prepare_walk(networks, dataset_of(networks[0]), sweep.splits, seed=SEED, **sweep.walking)
    walked = list(interpolation.walk_pairs(walk, networks, match, aligned, corrected))
    shared = _of_networks(result, networks) | _of_match(sweep, result, match, goal)
    for correct in corrected:
        for split in walk.splits:
            curves = {
                (walk_of_pair.a, walk_of_pair.b): walk_of_pair.curves[split]
                for walk_of_pair in walked
                if walk_of_pair.correct == correct
            }
            if match == matching.NONE:
                result.unmatched[correct, split] = curves
            means, intervals = barriers.mean_fields(curves)
            yield {
                "width": result.width,
                "match": match,
                "correct": correct,
                "split": split,
                "pairs": len(curves),
                "walked_images": len(walk.splits[split].labels),
                **{name: means[name] for name in barriers.BARRIERS},
                **intervals,
                **barriers.log_ratios(curves, result.unmatched.get((correct, split))),
                **shared,
            }


def _correlate(
    sweep: WidthSweep,
    paths: Sequence[str],
    probe: str,
    aligned: Mapping[str, Mapping[Pair, Permutations]],
    first: Loaded,
) -> Correlations:
    """Correlate all pairs on the probe, also under the permutations of every match."""
    correlations = Correlations(applied={match: {} for match in aligned})
    segments = unit_groups(first.network).layers
    by_layer: dict[Pair, list] = {}
    rows: dict[tuple[str, Pair], list[float]] = {}
    opened = activations.open_all(paths, split=probe, tap=sweep.tap, dataset=sweep.dataset)
    correlations.images = max(opened[0].samples.values())
    correlations.fewest_units = min(opened[0].layers.values())

    def keep(assessment: Assessment) -> Assessment:
        pair, layer, r = (assessment.pair.a, assessment.pair.b), assessment.pair.layer, assessment.pair.scores.r
        for match, permutations in aligned.items():
            applied = degradation.paired(r, segments[layer], permutations[pair])
            rows.setdefault((match, pair), []).append(applied)
        if sweep.degrade:
            correlations.layers.setdefault(pair, {})[layer] = r.astype(np.float32)
        return without_arrays(assessment)

    reading = sweep.request.reading(sweep.positions, memory=sweep.memory)
    with nulls.workers(max(opened[0].layers.values())) as spread:
        for _, assessments in assess_layers(layer_moments(opened, reading), sweep.request, spread, keep):
            for assessment in assessments:
                by_layer.setdefault((assessment.pair.a, assessment.pair.b), []).append(assessment.fields)
                correlations.dead += sum(assessment.pair.scores.dead) / sum(assessment.pair.scores.units)
    correlations.dead /= sum(map(len, by_layer.values()))
    correlations.scores = {
        pair: {name: _mean([assessment[name] for assessment in of]) for name in SCORES} for pair, of in by_layer.items()
    }
    for (match, pair), values in rows.items():
        correlations.applied[match][pair] = float(np.mean(values))
    return correlations


def _of_networks(result: WidthResult, networks: Sequence[Loaded]) -> dict:
    """Return the fields of a record that describe the networks."""
    accuracies = [
        loaded.file.history["test_accuracy"][-1:] for loaded in networks if "test_accuracy" in loaded.file.history
    ]
    recipe = networks[0].file.training
    return {
        "networks": len(networks),
        "epochs": recipe.get("epochs"),
        "optimizer": recipe.get("optimizer"),
        "test_accuracy": float(np.mean(accuracies)) if accuracies else None,
        "dead": result.correlations.dead,
        "fewest_units": result.correlations.fewest_units,
    }


def _of_match(sweep: WidthSweep, result: WidthResult, match: str, goal: float | None) -> dict:
    """Return the fields of a record that describe the match, and the correlations of the pairs."""
    correlations = result.correlations
    tables = {name: {pair: scores[name] for pair, scores in correlations.scores.items()} for name in SCORES}
    fields = _with_intervals("correlation", correlations.applied[match])
    for name, values in tables.items():
        fields |= _with_intervals(name, values)
    return {
        "matched_images": result.images[match],
        "correlated_on": sweep.probe,
        "correlated_images": correlations.images,
        "degraded_to": goal,
        "equal_correlation": degradation.is_equal(fields["correlation"], goal),
        **fields,
        **share_over_networks(*(tables[name] for name in SHARE_OF)).fields("share"),
    }


def _with_intervals(name: str, values: Mapping[Pair, float | None]) -> dict[str, float | None]:
    return over_networks(values).fields(name, bound(name))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _width(architecture: Mapping) -> tuple[float, dict]:
    """Return the width of an architecture (of an MLP the largest one), and its other fields."""
    rest = dict(architecture)
    if "hidden" in rest:
        hidden = rest["hidden"]
        return max(hidden), rest | {"hidden": f"{len(hidden)} layers"}
    return rest.pop("width"), rest | {"layout": str(rest.get("layout"))}
