"""How privileged the bases of networks are, beside untrained networks, as records (docs/privilege.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basiscli.analysis.privilege import STANDARDISED, LayerPrivilege, layer_privileges
from basiscli.analysis.statistics import ENDS, over_sample
from basiscli.errors import BadInput
from basiscli.files import activations
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import Loaded, difference, initial_arrays, is_network, load
from basiscli.files.source import Source
from basiscli.files.targets import require_new
from basiscli.names import EVERY
from basiscli.notes import log

PRE = "pre"
# Intervals are over so many networks or more.
FEWEST = 3
# A privilege of a single network below this size is called none: untrained and linear networks measure so much.
SMALL = 0.05


@dataclass(frozen=True)
class PrivilegeRequest:
    """What to measure: rotations of each layer, their seed, whether to whiten, and the rows of a convolution."""

    draws: int = 10
    seed: int = 0
    whiten: bool = False
    positions: str | int = "all"

    def layers(self, source: Source, failed: dict) -> Iterator[LayerPrivilege]:
        """Yield the privilege of each layer of a source; `failed` takes the reasons of layers without one."""

        def note(layer: str, reason: BadInput) -> None:
            failed[source.path, layer] = reason

        return layer_privileges(source, self.draws, self.seed, self.positions, self.whiten, note)


@dataclass
class _Seen:
    """What was measured of one layer: a record a network, and the kurtosis of all units for the figure."""

    records: list[dict] = field(default_factory=list)
    units: list[np.ndarray] = field(default_factory=list)
    rotated: list[np.ndarray] = field(default_factory=list)
    untrained: list[np.ndarray] = field(default_factory=list)


def privilege_files(
    paths: Sequence[str],
    request: PrivilegeRequest,
    *,
    layers: Sequence[str] = EVERY,
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
    channels: str | None = None,
    ids: str | None = None,
    baseline: Sequence[str] = (),
    plot: Path | None = None,
    force: bool = False,
) -> Iterator[dict]:
    """Yield a record a file and layer, then of three files or more one of each layer's mean, with 95 % intervals.

    The files are networks or arrays, opened as `activations.open_all` says; tap None: before the nonlinearity of
    networks. Beside each network stands the untrained one of its seed, drawn again. baseline: files to set beside the
    others instead, one for each or one for all. The figure `plot` is drawn after the last record.

    Raises BadInput for files that do not fit together, for a baseline of another run, and if `plot` exists, unless
    `force`. For layers without a privilege it raises BadInput at the end, after the records of the others.
    """
    every = activations.open_all([*paths, *baseline], layers, split, tap, samples, dataset, channels, ids, PRE)
    opened = every[: len(paths)]
    if plot:
        require_new(plot, force, [*paths, *baseline])
    if baseline:
        beside: Sequence[Source | None] = _baselines(opened, every[len(paths) :])
    else:
        beside = [_untrained(source, split, tap, samples, dataset) for source in opened]
    for note in dict.fromkeys(note for source in opened for note in source.notes):
        log.warning(note)
    failed: dict[tuple[str, str], BadInput] = {}
    seen: dict[str, _Seen] = {}
    for source, untrained in zip(opened, beside, strict=True):
        yield from _records(source, untrained, request, len(opened), failed, seen)
    for of_layer in seen.values():
        if len(of_layer.records) >= FEWEST:
            yield _mean_record(of_layer.records)
    if plot and seen:
        _draw(plot, seen, paths[0] if len(paths) == 1 else f"{len(paths)} networks")
    if failed:
        raise BadInput("; ".join(map(str, failed.values())))


def _records(
    source: Source,
    untrained: Source | None,
    request: PrivilegeRequest,
    networks: int,
    failed: dict,
    seen: dict[str, _Seen],
) -> Iterator[dict]:
    """Yield the record of each layer of one source, and note it in `seen`."""
    start = {} if untrained is None else {one.layer: one for one in request.layers(untrained, failed)}
    for result in request.layers(source, failed):
        before = start.get(result.layer)
        scores = _beside(result.scores, before.scores if before else {})
        record = {
            "path": source.path,
            "layer": result.layer,
            "units": result.units,
            "dead": result.dead,
            "samples": source.samples[result.layer],
            **result.fields,
            **scores,
            "positions": result.positions,
        }
        if networks >= FEWEST:
            record |= {f"{name}{end}": None for name in scores for end in ENDS[1:]} | {"networks": 1}
        of_layer = seen.setdefault(result.layer, _Seen())
        of_layer.records.append(record)
        of_layer.units.append(result.spaces[STANDARDISED].kurtosis)
        of_layer.rotated.append(result.spaces[STANDARDISED].rotated_kurtosis.ravel())
        of_layer.untrained += [before.spaces[STANDARDISED].kurtosis] if before else []
        yield record


def _beside(scores: Mapping[str, float | None], start: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return scores, those of the untrained network, and by how much training raised them."""
    fields = dict(scores)
    for name, value in scores.items():
        before = start.get(name)
        fields[f"untrained_{name}"] = before
        fields[f"{name}_rise"] = None if value is None or before is None else value - before
    return fields


def _mean_record(records: Sequence[Mapping]) -> dict:
    """Return the record of a layer's mean over networks; a field that differs between networks is None."""
    first = records[0]
    mean = dict(first) | {"path": f"{len(records)} networks", "networks": len(records)}
    for name in ("units", "samples", "positions"):
        mean[name] = first[name] if len({record[name] for record in records}) == 1 else None
    for name in first:
        if isinstance(first[name], float) or f"{name}_low" in first or name == "dead":
            values = [record[name] for record in records]
            estimate = over_sample(value for value in values if value is not None)
            mean[name] = estimate.value
            if f"{name}_low" in first and len(values) >= FEWEST:
                mean |= estimate.fields(name)
    return mean


def _untrained(
    source: Source, split: str | None, tap: str | None, samples: int | None, dataset: str | None
) -> Source | None:
    """Return the network of a source as its seed drew it, None for arrays and where the seed does not determine it."""
    if not is_network(source.path):
        return None
    loaded = load(source.path)
    try:
        arrays = {path: values[None] for path, values in initial_arrays(loaded, "baseline").items()}
    except BadInput as error:
        log.warning(f"{error}; give the untrained network as `baseline`")
        return None
    start = activations.of_network(
        f"{source.path} untrained", loaded.network, arrays, loaded.standard, dataset_of(loaded, dataset),
        split or "test", tap or PRE,
    )  # fmt: skip
    return activations.narrow(activations.chosen(start, list(source.layers)), samples)


def _baselines(opened: Sequence[Source], baseline: Sequence[Source]) -> list[Source]:
    """Return the baseline of each file. Raises BadInput unless it is of the same run and has the same units."""
    if len(baseline) not in (1, len(opened)):
        raise BadInput(
            f"`baseline`: {len(baseline)} files beside {len(opened)}: give one for each, in order, or one for all"
        )
    each = list(baseline) * (len(opened) if len(baseline) == 1 else 1)
    for source, other in zip(opened, each, strict=True):
        for layer, units in source.layers.items():
            if other.layers.get(layer) != units:
                there = f"{other.layers[layer]} units" if layer in other.layers else "no such layer"
                raise BadInput(f"{other.path}: layer {layer}: {there}; {source.path} has {units} units")
        if is_network(source.path) and is_network(other.path):
            _require_same_run(load(source.path), load(other.path))
    return each


def _require_same_run(trained: Loaded, other: Loaded) -> None:
    """Raise BadInput unless a network can be an earlier state of another one."""
    descriptions = [
        {**file.architecture, "seed": file.seed, "data set": file.dataset.get("checksum")}
        | {name: value for name, value in file.training.items() if name != "epochs"}
        for file in (other.file, trained.file)
    ]
    if (differs := difference(*descriptions)) is not None:
        raise BadInput(
            f"{other.path}: of another run than {trained.path} ({differs}): give an earlier state of the same network"
        )


def _draw(plot: Path, seen: Mapping[str, _Seen], of: str) -> None:
    from basiscli.plots.privilege import Strip, privilege_figure
    from basiscli.plots.style import save

    strips = [
        Strip(
            layer,
            np.concatenate(of_layer.units),
            np.concatenate(of_layer.rotated),
            np.concatenate(of_layer.untrained) if of_layer.untrained else None,
        )
        for layer, of_layer in seen.items()
    ]
    save(privilege_figure(strips, of), plot)


def sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield a line of words for each layer of the records of `privilege_files`: on the mean over networks, or each."""
    by_layer: dict[str, list[Mapping]] = {}
    for record in records:
        by_layer.setdefault(record["layer"], []).append(record)
    for layer, of_layer in by_layer.items():
        for record in [record for record in of_layer if record.get("networks", 1) > 1] or of_layer:
            of = f" of {record['path']}" if len(by_layer[layer]) > 1 and record.get("networks", 1) == 1 else ""
            yield f"{layer}{of}: {_sentence(record)}"


def _sentence(record: Mapping) -> str:
    told = (
        f"kurtosis {record['kurtosis']:.2f}, of rotated axes {record['rotated_kurtosis']:.2f}: "
        f"privilege {_with_interval(record, 'privilege')}"
    )
    if record["untrained_privilege"] is not None:
        told += f", untrained {_with_interval(record, 'untrained_privilege')}"
    if record.get("networks", 1) > 1:
        told += f", mean of {record['networks']} networks"
    return f"{told}: {_verdict(record)}"


def _with_interval(record: Mapping, name: str) -> str:
    low, high = record.get(f"{name}_low"), record.get(f"{name}_high")
    return f"{record[name]:.2f}" + ("" if low is None else f" ({low:.2f} to {high:.2f})")


def _verdict(record: Mapping) -> str:
    """Say what follows of a privilege: by the interval over networks, or of one network by its size.

    The rise over the untrained network and the score of raw axes must agree: in linear networks the first can be above
    0 by the anisotropy of the data, the second cannot (docs/metrics.md).
    """
    trained = record["untrained_privilege"] is not None
    ends = [_ends(record, name) for name in ("privilege_rise" if trained else "privilege", "privilege_raw")]
    whose = "training made" if trained else "there are"
    if min(low for low, _ in ends) > 0:
        return f"{whose} units sparser than other axes"
    if max(high for _, high in ends) < 0:
        return f"{whose} units less sparse than other axes"
    return "no privilege by training for certain" if trained else "no privilege for certain"


def _ends(record: Mapping, name: str) -> tuple[float, float]:
    """Return the ends of the interval of a field, of a single network those of a band around the value."""
    low, high = record.get(f"{name}_low"), record.get(f"{name}_high")
    return (record[name] - SMALL, record[name] + SMALL) if low is None or high is None else (low, high)
