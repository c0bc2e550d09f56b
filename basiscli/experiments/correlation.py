"""Basis correlation of files, pair by pair and layer by layer, as records (docs/metrics.md)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from basiscli.analysis import assess, nulls
from basiscli.analysis.assess import Assessment, CorrelationRequest, has_interval, summarise
from basiscli.analysis.passes import Compared, Reading, layer_moments, shared_layers
from basiscli.errors import BadInput
from basiscli.files import activations, hdf5, kinds
from basiscli.files.source import renamed
from basiscli.files.writer import Writer, writing
from basiscli.names import EVERY
from basiscli.notes import log

# The null of excess and share.
ROTATED = "standardised_rotated_held_out"
# A line of words names the dead units if they are more than this part.
DEAD_PART = 0.1
# Words for the share, the part of the way from the null to the ceiling.
SHARES = (
    (0.1, "no common basis to speak of"),
    (0.5, "some of a common basis"),
    (0.9, "much of a common basis"),
    (float("inf"), "a common basis"),
)
# The most layers that a note names.
LISTED = 8


def correlate_files(
    paths: Sequence[str],
    request: CorrelationRequest,
    *,
    layers: Sequence[str] = EVERY,
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
    channels: str | None = None,
    ids: str | None = None,
    renames: Sequence[tuple[str, str]] = (),
    positions: str | int = "all",
    intervals: bool = False,
    memory: int | None = None,
    out: Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> Iterator[dict]:
    """Yield a record a pair and layer and, with intervals, one of a layer's mean over pairs.

    The files are networks or arrays (samples, ..., units), opened as `activations.open_all` says. renames: rules for
    the names of layers, see `names.renamed`. memory: bytes that
    may be taken, None: most of the free memory; where there is less, files are read several times. Matrices and
    permutations go into the HDF5 file `out`, a figure into `plot`, which is drawn after the last record.

    Raises BadInput for files that do not fit together, and if `out` or `plot` exists, unless `force`. For layers that
    cannot be compared it raises BadInput at the end, after the other layers are written.
    """
    opened = activations.open_all(paths, layers, split, tap, samples, dataset, channels, ids, without_diverged=True)
    opened = [renamed(source, renames) for source in opened]
    for target, kind in ((plot, kinds.FIGURE), (out, kinds.results_of("correlate"))):
        if target:
            kinds.require_target(target, kind, force, paths)
    drawn: list = []
    failed: dict[str, BadInput] = {}
    with ExitStack() as stack:
        results = stack.enter_context(writing(out, force)) if out else None
        if results:
            results.attributes(
                {
                    "kind": hdf5.RESULTS,
                    "analysis": "correlate",
                    "files": [source.path for source in opened],
                    "seed": request.seed,
                }
            )
        reading = request.reading(positions, len(opened) == 1, memory)
        yield from _records(opened, request, reading, intervals, results, drawn if plot else None, failed)
    if plot:
        _draw(plot, paths, drawn, per_layer=bool(request.nulls or intervals))
    if failed:
        raise BadInput("; ".join(map(str, failed.values())))


def _records(
    opened: Sequence,
    request: CorrelationRequest,
    reading: Reading,
    intervals: bool,
    results: Writer | None,
    drawn: list | None,
    failed: dict[str, BadInput],
) -> Iterator[dict]:
    """Yield a record a pair and layer and, with intervals, one of a layer's mean over pairs.

    Arrays go into the open file `results`, assessments for a figure into `drawn`, and layers that cannot be compared
    into `failed`, with the reason. Raises the first reason if no layer can be compared.
    """
    shared = shared_layers(opened)
    notes = _notes(opened, shared, request)
    width = max(units for source in opened for units in source.layers.values()) if request.nulls else 0

    def fails(layer: str, reason: BadInput) -> None:
        failed.setdefault(layer, reason)
        if results:
            results.remove(f"layers/{layer}")

    with nulls.workers(width) as spread:
        layers = layer_moments(opened, reading, failed=fails)
        for compared, assessments in assess.assess_layers(layers, request, spread, _keep(results, drawn is not None)):
            of_layer: list = []
            for assessment in assessments:
                while notes:  # notes wait until a record is certain, since an error is one line alone
                    log.warning(notes.pop(0))
                if not of_layer:
                    _warn_of_few_rows(compared)
                of_layer.append(assessment)
                yield _record(opened, compared, assessment, intervals)
            if drawn is not None:
                drawn.append(of_layer)
            if intervals and len(compared.networks) > 2:
                yield _mean_record(opened, compared, of_layer)
    if len(failed) == len(shared):
        raise next(iter(failed.values()))


def _keep(results: Writer | None, drawn: bool) -> Callable[[Assessment], Assessment]:
    """Return the function that stores an assessment's arrays, and returns the rest; of a layer's first pair all."""
    seen: set[str] = set()

    def keep(assessment: Assessment) -> Assessment:
        if results:
            _store(results, assessment.pair)
        first = drawn and assessment.pair.layer not in seen
        seen.add(assessment.pair.layer)
        return assess.without_arrays(assessment, keep_r=first)

    return keep


def _notes(opened: Sequence, shared: dict, request: CorrelationRequest) -> list[str]:
    """Return the notes before the first record: how files were read, and which layers are not compared."""
    notes = [note for source in opened for note in source.notes]
    for layer, owners in shared.items():
        if len(owners) < len(opened):
            notes.append(f"{len(owners)} of {len(opened)} files have layer {layer}; pairs of those only")
    alone = [f"{layer} ({source.path})" for source in opened for layer in source.layers if layer not in shared]
    if alone:
        more = ", ..." if len(alone) > LISTED else ""
        notes.append(f"in one file only, so not compared: {', '.join(alone[:LISTED])}{more}")
    return notes + [assess.explain(name) for name in request.similarities]


def _warn_of_few_rows(compared: Compared) -> None:
    if compared.rows < compared.widest:
        log.warning(
            f"layer {compared.layer}: {compared.rows:,} rows of {compared.widest:,} units: with fewer rows than units, "
            "unrelated networks look alike; show more inputs"
        )


def _record(opened: Sequence, compared: Compared, assessment: Assessment, intervals: bool) -> dict:
    scores = assessment.pair.scores
    record = {
        "a": opened[assessment.pair.a].path,
        "b": opened[assessment.pair.b].path,
        "layer": compared.layer,
        "units_a": scores.units[0],
        "units_b": scores.units[1],
        "dead_a": scores.dead[0],
        "dead_b": scores.dead[1],
        "samples": opened[assessment.pair.a].samples[compared.layer],
        **assessment.fields,
        "positions": compared.positions,
    }
    undefined = [
        name for name, value in assessment.fields.items() if value is None and name in ("cca", "svcca", "pwcca")
    ]
    if undefined:
        units = f"{record['units_a']} and {record['units_b']} units"
        few = f"{compared.rows} rows are too few for {', '.join(undefined)} of {units}"
        log.warning(f"layer {compared.layer}: {few}: left empty")
    if intervals:
        record |= {
            f"{name}_{end}": None
            for name in assessment.fields
            if has_interval(name)
            for end in ("low", "high", "error")
        }
        record["pairs"] = 1
    return record


def _mean_record(opened: Sequence, compared: Compared, of_layer: list) -> dict:
    """Return the record of a layer's mean over pairs; a field that differs between networks is None."""
    units = {u for assessment in of_layer for u in assessment.pair.scores.units}
    width = units.pop() if len(units) == 1 else None
    summary = summarise(of_layer)
    return {
        "a": f"{len(compared.networks)} networks",
        "b": f"{len(of_layer)} pairs",
        "layer": compared.layer,
        "units_a": width,
        "units_b": width,
        "dead_a": sum(assessment.pair.scores.dead[0] for assessment in of_layer) / len(of_layer),
        "dead_b": sum(assessment.pair.scores.dead[1] for assessment in of_layer) / len(of_layer),
        "samples": opened[compared.networks[0]].samples[compared.layer],
        **{name: summary[name] for name in of_layer[0].fields},
        "positions": compared.positions,
        **{name: value for name, value in summary.items() if name not in of_layer[0].fields},
        "pairs": len(of_layer),
    }


def _store(results, pair) -> None:
    group = f"layers/{pair.layer}/{pair.a}-{pair.b}"
    results.array(f"{group}/correlation", pair.scores.r.astype("float32"))
    results.array(f"{group}/permutation", pair.scores.permutation)


def _draw(plot: Path, paths: Sequence[str], drawn: list, per_layer: bool) -> None:
    from basiscli.plots.networks import layers_figure, pair_figure
    from basiscli.plots.style import save

    if per_layer and len(drawn) > 1:
        figure = layers_figure(drawn)
    else:
        first = drawn[0][0].pair
        same = [
            assessments[0]
            for assessments in drawn
            if (assessments[0].pair.a, assessments[0].pair.b) == (first.a, first.b)
        ]
        figure = pair_figure(paths[first.a], paths[first.b], same)
    save(figure, plot)


def sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield a line of words for each layer of the records of `correlate_files`: on its mean over pairs, or its pair."""
    by_layer: dict[str, list[Mapping]] = {}
    for record in records:
        by_layer.setdefault(record["layer"], []).append(record)
    for layer, of_layer in by_layer.items():
        whole = [record for record in of_layer if record.get("pairs", 0) > 1] or of_layer
        if (line := _sentence(whole)) is not None:
            yield f"{layer}: {line}"


def _sentence(records: Sequence[Mapping]) -> str | None:
    held_out, null, excess, ceiling, share = (
        _mean_of(records, name)
        for name in (
            "matched_held_out", f"{ROTATED}_mean", f"{ROTATED}_excess", "standardised_aligned_held_out", "share",
        )
    )  # fmt: skip
    if held_out is None:
        return None
    told = f"{held_out:.2f} held out" + (f", mean of {len(records)} pairs" if len(records) > 1 else "")
    dead, units = _mean_of(records, "dead_a"), _mean_of(records, "units_a")
    if dead and units and dead > DEAD_PART * units:
        told += f", {dead:.0f} of {units:.0f} units dead (scored 0)"
    if null is None or excess is None or ceiling is None:
        return told
    low, high = (records[0].get(f"{ROTATED}_excess_{end}") for end in ("low", "high"))
    interval = f", {low:.2f} to {high:.2f}" if len(records) == 1 and low is not None and high is not None else ""
    told += f", rotated null {null:.2f} (excess {excess:.2f}{interval}), aligned ceiling {ceiling:.2f}"
    if share is None:
        return f"{told}: no common space to speak of"
    return f"{told}: {next(words for bound, words in SHARES if share < bound)}"


def _mean_of(records: Sequence[Mapping], name: str) -> float | None:
    values = [record[name] for record in records if record.get(name) is not None]
    return sum(values) / len(values) if values else None
