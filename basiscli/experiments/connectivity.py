"""Barriers against width, beside the correlation of the same pairs of networks (docs/connectivity.md)."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basiscli.alignment import corrections, interpolation
from basiscli.alignment.interpolation import Permutations, Walked
from basiscli.analysis import barriers, nulls, pairs
from basiscli.analysis.assess import SCORES, SHARE_OF, Request, assess, bound
from basiscli.analysis.barriers import DEGRADED
from basiscli.analysis.degrade import undone
from basiscli.analysis.statistics import over_networks, share_over_networks
from basiscli.errors import BadInput
from basiscli.experiments import training
from basiscli.files import activations
from basiscli.files.datasets import dataset_of, load_dataset
from basiscli.files.networks import DIVERGED, DONE, UNFINISHED, Loaded, load_network
from basiscli.nn.unit_groups import Segment, unit_groups
from basiscli.rng import generator
from basiscli.training import defaults

# Halves, permutations to undo, samples and intervals are drawn from this seed.
SEED = 0

Pair = tuple[int, int]


@dataclass(frozen=True)
class Study:
    """How to look at the networks of each width.

    matching, walking: keywords of `interpolation.requests` and `interpolation.plan`. corrected None: none and what the
    networks need. probe None: the data set's. degrade_to None: what the narrowest networks correlate. dataset: where it
    is now, if it has moved.
    """

    matches: Sequence[str]
    matching: Mapping
    corrected: Sequence[str] | None
    splits: Sequence[str]
    walking: Mapping
    probe: str | None
    tap: str
    positions: str | int
    request: Request
    degrade: bool
    degrade_to: float | None
    dataset: str | None = None


@dataclass
class Correlations:
    """What the pairs of a width correlate.

    scores: by pair, the mean over layers of each of SCORES. layers: by pair and layer, r (U, U), float32; only for what
    needs whole matrices. applied: by match and pair, the mean r of unit i of A and unit π(i) of B.
    """

    scores: dict[Pair, dict[str, float | None]] = field(default_factory=dict)
    dead: float = 0.0
    layers: dict[Pair, dict[str, np.ndarray]] = field(default_factory=dict)
    applied: dict[str, dict[Pair, float]] = field(default_factory=dict)


def trained(options: Mapping, widths: Sequence[float]) -> Iterator[tuple[float, list[str]]]:
    """Train what is not there yet, a folder a width, and yield each width, from the narrowest, with its networks.

    Raises BadInput before anything is trained if a width does not fit the model, and as `session.run` does.
    """
    dataset = load_dataset(options["dataset"])
    plans = {width: training.plan({**options, "width": width}, dataset)[1] for width in sorted(widths)}
    out = options["out"] or f"{next(iter(plans.values()))['out']}-connectivity"
    for width, planned in plans.items():
        folder = Path(out) / f"width{width:g}"
        _say(str(folder))
        changes = {"out": str(folder), "resume": not options["force"]}
        records = list(training.run({**planned, **changes}, go_on="the same command goes on"))
        done = [record["path"] for record in records if record["status"] == DONE]
        if len(done) < 2:
            raise BadInput(f"{folder}: all networks but {len(done)} diverged in training; choose a smaller --lr")
        yield width, done


def taken(paths: Sequence[str]) -> list[tuple[float, list[str]]]:
    """Return widths, from the narrowest, with the networks of files, of one architecture each.

    Networks that diverged are left out, with a line on stderr. Raises BadInput if architectures differ in more than
    their width, or a width has one network alone.
    """
    groups: dict[float, list[str]] = {}
    first = None
    for path in paths:
        file = load_network(path)
        if file.status == DIVERGED:
            _say(f"{path}: diverged in training, left out")
            continue
        if file.status == UNFINISHED:
            _say(f"{path}: its training is not finished")
        width, rest = _width(file.architecture)
        first = first or (path, rest)
        if rest != first[1]:
            name = next(key for key in rest | first[1] if rest.get(key) != first[1].get(key))
            raise BadInput(
                f"{path}: differs from {first[0]} in more than its width "
                f"({name} {rest.get(name)}, not {first[1].get(name)})"
            )
        groups.setdefault(width, []).append(path)
    for width, members in groups.items():
        if len(members) < 2:
            raise BadInput(f"{members[0]}: the only network of width {width:g}; pairs need two")
    if not groups:
        raise BadInput("all networks diverged in training")
    return sorted(groups.items())


def run(study: Study, groups: Iterator[tuple[float, list[str]]]) -> Iterator[dict]:
    """Yield a record for each width, match, correction and split: means over pairs with intervals over networks."""
    goals: dict[str, list[float]] = {}
    for width, paths in groups:
        networks = interpolation.load_alike(paths, study.dataset)
        corrected = study.corrected or (corrections.NONE, corrections.default(networks[0].network))
        corrections.require_possible(networks[0].network, corrected)
        dataset = dataset_of(networks[0])
        walk = interpolation.plan(networks, dataset, study.splits, seed=SEED, **study.walking)
        _say(f"width {width:g}: matching")
        requests = interpolation.requests(study.matches, seed=SEED, **study.matching)
        aligned = dict(interpolation.alignments(networks, requests))
        _say(f"width {width:g}: correlating")
        found = _correlate(study, paths, study.probe or defaults.probe(dataset), aligned, networks[0])
        if study.degrade:
            aligned |= _degraded(networks[0], aligned, found, goals, study.degrade_to)
        for match, permutations in aligned.items():
            _say(f"width {width:g}: walking, {match}")
            walked = list(interpolation.walk_pairs(walk, networks, match, permutations, corrected))
            yield from _records(width, networks, match, corrected, walked, found)


def _correlate(
    study: Study, paths: Sequence[str], probe: str, aligned: Mapping[str, Mapping[Pair, Permutations]], first: Loaded
) -> Correlations:
    """Correlate all pairs on the probe, also under the permutations of every match."""
    found = Correlations(applied={match: {} for match in aligned})
    segments = unit_groups(first.network).layers
    by_layer: dict[Pair, list] = {}
    rows: dict[tuple[str, Pair], list[float]] = {}
    opened = activations.open_all(paths, split=probe, tap=study.tap, dataset=study.dataset)
    with nulls.workers(max(opened[0].layers.values())) as spread:
        for moments in pairs.layer_moments(opened, study.request.seed, True, study.positions):
            for one in assess(moments, study.request, spread):
                pair, scores = (one.pair.a, one.pair.b), one.pair.scores
                by_layer.setdefault(pair, []).append(one.fields)
                found.dead += sum(scores.dead) / sum(scores.units)
                for match, permutations in aligned.items():
                    applied = _applied(scores.r, segments[moments.layer], permutations[pair])
                    rows.setdefault((match, pair), []).append(applied)
                if study.degrade:
                    found.layers.setdefault(pair, {})[moments.layer] = scores.r.astype(np.float32)
    found.dead /= sum(map(len, by_layer.values()))
    found.scores = {pair: {name: _mean([one[name] for one in of]) for name in SCORES} for pair, of in by_layer.items()}
    for (match, pair), values in rows.items():
        found.applied[match][pair] = float(np.mean(values))
    return found


def along(segments: Sequence[Segment], permutations: Permutations) -> np.ndarray:
    """Return the permutation of a layer's units that those of the groups make."""
    parts = [
        segment.start + permutations.get(segment.group, np.arange(segment.stop - segment.start)) for segment in segments
    ]
    return np.concatenate(parts)


def _degraded(
    first: Loaded,
    aligned: Mapping[str, Mapping[Pair, Permutations]],
    found: Correlations,
    goals: dict[str, list],
    goal: float | None,
) -> dict[str, dict[Pair, Permutations]]:
    """Return every match with part of it undone, so that each group correlates like the goal or the narrowest networks.

    `goals` holds the narrowest networks' correlations by match and number of the group; the first width sets them.
    Adds what the undone matches correlate to `found.applied`.
    """
    layers, groups = unit_groups(first.network).layers, list(unit_groups(first.network).groups)
    changed: dict[str, dict[Pair, Permutations]] = {}
    for match in [match for match in aligned if match != "none"]:
        name = f"{match}{DEGRADED}"
        changed[name], found.applied[name], levels = {}, {}, []
        for pair, permutations in aligned[match].items():
            r, rng = found.layers[pair], generator(SEED, "degrade", *pair)
            tables = _group_tables(layers, r, permutations)
            levels.append([float(tables[group].diagonal().mean()) for group in groups])
            wanted = goals.get(match, levels[-1]) if goal is None else [goal] * len(groups)
            new = {
                group: permutations[group][undone(tables[group], level, rng)]
                for group, level in zip(groups, wanted, strict=True)
            }
            changed[name][pair] = new
            found.applied[name][pair] = float(np.mean([_applied(r[layer], layers[layer], new) for layer in layers]))
        goals.setdefault(match, list(np.mean(levels, axis=0)))
    return changed


def _applied(r: np.ndarray, segments: Sequence[Segment], permutations: Permutations) -> float:
    """Return the mean r (U, U) of the units of a layer that a match pairs."""
    return float(np.mean(r[np.arange(len(r)), along(segments, permutations)], dtype=np.float64))


def _group_tables(
    layers: Mapping[str, Sequence[Segment]], r: Mapping[str, np.ndarray], permutations: Permutations
) -> dict[str, np.ndarray]:
    """Return for each group the mean over its layers of r with B's units permuted, partners on the diagonal."""
    found: dict[str, list] = {}
    for layer, segments in layers.items():
        matched = r[layer][:, along(segments, permutations)]
        for segment in segments:
            if segment.group is not None:
                place = slice(segment.start, segment.stop)
                found.setdefault(segment.group, []).append(matched[place, place])
    return {group: np.mean(tables, axis=0) for group, tables in found.items()}


def _records(
    width: float, networks: Sequence[Loaded], match: str, corrected: Sequence[str], walked: Sequence[Walked],
    found: Correlations,
) -> Iterator[dict]:  # fmt: skip
    correlations = _with_intervals("correlation", found.applied[match])
    tables = {name: {pair: one[name] for pair, one in found.scores.items()} for name in SCORES}
    for name in SCORES:
        correlations |= _with_intervals(name, tables[name])
    correlations |= share_over_networks(*(tables[name] for name in SHARE_OF)).fields("share")
    accuracies = [one.file.history["test_accuracy"][-1:] for one in networks if "test_accuracy" in one.file.history]
    for correct in corrected:
        chosen = [one for one in walked if one.correct == correct]
        for split in chosen[0].curves:
            curves = {(one.a, one.b): one.curves[split] for one in chosen}
            means, intervals = barriers.mean_fields(curves)
            yield {
                "width": width,
                "match": match,
                "correct": correct,
                "split": split,
                "networks": len(networks),
                "pairs": len(chosen),
                "test_accuracy": float(np.mean(accuracies)) if accuracies else None,
                "dead": found.dead,
                **{name: means[name] for name in barriers.BARRIERS},
                **intervals,
                **correlations,
            }


def _with_intervals(name: str, values: Mapping[Pair, float | None]) -> dict[str, float | None]:
    return over_networks(values).fields(name, bound(name))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _width(architecture: Mapping) -> tuple[float, dict]:
    """Return the width of an architecture, the largest of a perceptron's, and what is left of it."""
    rest = dict(architecture)
    if "hidden" in rest:
        hidden = rest["hidden"]
        return max(hidden), rest | {"hidden": f"{len(hidden)} layers"}
    return rest.pop("width"), rest | {"layout": str(rest.get("layout"))}


def _say(text: str) -> None:
    print(f"basiscli: {text}", file=sys.stderr)
