"""The sweep of frozen prefixes (docs/frozen.md): a donor, networks that share its first layers, and their scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from basiscli.analysis import nulls, statistics
from basiscli.analysis.assess import (
    SCORES,
    SHARE_OF,
    Assessment,
    CorrelationRequest,
    assess_layers,
    bound,
    summarise,
)
from basiscli.analysis.passes import layer_moments
from basiscli.errors import BadInput
from basiscli.experiments import training
from basiscli.experiments.training import TrainingJob
from basiscli.experiments.training_loop import alone_in, make_folder
from basiscli.files import activations
from basiscli.files.datasets import load_dataset
from basiscli.files.networks import DONE
from basiscli.nn.unit_groups import unit_groups
from basiscli.notes import log
from basiscli.training import defaults

FREE, TRAINED, INITIAL = "free", "trained", "initial"
DONORS = (TRAINED, INITIAL)
PREFIXES = (0, 1, 2, 3)
DONOR_SEED = 100
# By field of a record: the score whose rise over the free networks it holds.
RISES = {
    "rise": "matched_held_out",
    "excess_rise": "rotated_held_out_excess",
    "standardised_excess_rise": "standardised_rotated_held_out_excess",
    "ceiling_rise": "standardised_aligned_held_out",
}
# Halves are drawn from this seed.
SEED = 0


@dataclass(frozen=True)
class Condition:
    """Networks that are trained alike: their first `prefix` layers (0: none) come from a trained or initial donor."""

    donor: str
    prefix: int
    donor_seed: int = DONOR_SEED

    @property
    def name(self) -> str:
        """The name of its folder: trained-1, or trained101-1 of a donor that is not the usual one."""
        seed = "" if self.donor_seed == DONOR_SEED else self.donor_seed
        return f"{self.donor}{seed}-{self.prefix}" if self.prefix else FREE


@dataclass(frozen=True)
class PrefixSweep:
    """The networks to train, and how to correlate them.

    job: the training of all networks, seeds included. prefixes None: those of PREFIXES that leave a layer after them.
    memory: bytes that correlating may take, None: most of the free memory.
    """

    job: TrainingJob
    donors: Sequence[str]
    donor_seed: int
    prefixes: Sequence[int] | None
    split: str | None
    tap: str
    positions: str | int
    request: CorrelationRequest
    memory: int | None = None


@dataclass(frozen=True)
class ConditionScores:
    """A condition's networks: their seeds, the mean of their test accuracies, and their pairs, layer by layer.

    images: the number of images that they were correlated on, each copy counted. fed: the layers that a skip ties to
    frozen units, so that a part of such a layer is the same in all networks.
    """

    seeds: tuple[int, ...]
    accuracy: float | None
    images: int
    layers: Mapping[str, Sequence[Assessment]]
    fed: frozenset[str] = frozenset()

    def scores(self, layer: str, field: str) -> dict[tuple[int, int], float | None]:
        """Return a score of every pair of networks, by their seeds."""
        return {
            (self.seeds[assessment.pair.a], self.seeds[assessment.pair.b]): assessment.fields[field]
            for assessment in self.layers[layer]
        }


def sweep_prefixes(sweep: PrefixSweep) -> Iterator[dict]:
    """Train missing networks, a folder for each condition; yield a record for each condition and later layer.

    While another program does the same in the folder, it waits. Raises BadInput before training if a prefix leaves no
    layer after it, and as training does.
    """
    dataset = load_dataset(sweep.job.dataset, sweep.job.channels)
    network, job = training.plan(sweep.job, dataset)
    if sweep.job.out is None:
        job = replace(job, out=f"{job.out}-frozen")
    sweep = replace(sweep, job=job, split=sweep.split or defaults.probe(dataset))
    layers = list(network.layers)
    conditions = _conditions(sweep, layers)
    donors: dict[str, str] = {}
    free = None
    assert job.out is not None  # see `TrainingJob.filled`
    make_folder(Path(job.out), 0)
    with alone_in(Path(job.out), wait=True):  # steps of a study share the folder, a donor each
        for condition in conditions:
            if condition.prefix and condition.donor not in donors:
                donors[condition.donor] = _train_donor(sweep, condition.donor)
            records = _train_networks(sweep, condition, donors.get(condition.donor))
            result = _correlate_condition(sweep, condition, layers, records)
            free = free or result
            for layer in result.layers:
                yield _record(sweep, condition, layer, result, free)


def _conditions(sweep: PrefixSweep, layers: Sequence[str]) -> list[Condition]:
    """Return the conditions, the free networks first."""
    prefixes = sweep.prefixes
    if prefixes is None:
        prefixes = [prefix for prefix in PREFIXES if prefix < len(layers)]
    if max(prefixes) >= len(layers):
        raise BadInput(
            f"a prefix of {max(prefixes)} layers leaves none of {', '.join(layers)} to correlate: "
            f"choose up to {len(layers) - 1}"
        )
    frozen = [
        Condition(donor, prefix, sweep.donor_seed) for donor in sweep.donors for prefix in sorted(set(prefixes) - {0})
    ]
    return [Condition(FREE, 0), *frozen]


def _train_donor(sweep: PrefixSweep, donor: str) -> str:
    job = replace(sweep.job, seeds=(sweep.donor_seed,), start_only=False)
    (record,) = _train(sweep, f"donor-{donor}", replace(job, epochs=0) if donor == INITIAL else job)
    return record["path"]


def _train_networks(sweep: PrefixSweep, condition: Condition, donor: str | None) -> list[dict]:
    if condition.prefix:
        job = replace(sweep.job, donor=donor, freeze_prefix=condition.prefix)
    else:
        job = replace(sweep.job, start_only=False)
    return _train(sweep, condition.name, job)


def _train(sweep: PrefixSweep, name: str, job: TrainingJob) -> list[dict]:
    """Train the networks that a folder of the sweep lacks, and return the records of all its networks."""
    assert sweep.job.out is not None  # see `sweep_prefixes`
    out = Path(sweep.job.out) / name
    log.info(str(out))
    job = replace(job, resume=not job.force, out=str(out))
    return list(training.train_networks(job, go_on="the same command goes on"))


def _correlate_condition(
    sweep: PrefixSweep, condition: Condition, layers: Sequence[str], records: Sequence[dict]
) -> ConditionScores:
    """Correlate the layers after a condition's prefix."""
    done = [record for record in records if record["status"] == DONE]
    if len(done) < 2:
        raise BadInput(f"{condition.name}: all networks but {len(done)} diverged in training; choose a smaller `lr`")
    opened = activations.open_all([record["path"] for record in done], split=sweep.split, tap=sweep.tap)
    after = layers[condition.prefix :]
    opened = [replace(source, layers={name: source.layers[name] for name in after}) for source in opened]
    assessed = {}
    with nulls.workers(max(units for source in opened for units in source.layers.values())) as spread:
        reading = sweep.request.reading(sweep.positions, memory=sweep.memory)
        for compared, assessments in assess_layers(layer_moments(opened, reading), sweep.request, spread):
            assessed[compared.layer] = list(assessments)
    accuracies = [record["test_accuracy"] for record in done]
    mean = None if None in accuracies else sum(accuracies) / len(accuracies)
    return ConditionScores(
        tuple(record["seed"] for record in done),
        mean,
        max(opened[0].samples.values()),
        assessed,
        _fed(sweep, layers, condition.prefix),
    )


def _fed(sweep: PrefixSweep, layers: Sequence[str], prefix: int) -> frozenset[str]:
    """Return the layers after a prefix whose units a skip ties to frozen ones, one by one."""
    network, _ = training.plan(sweep.job, load_dataset(sweep.job.dataset, sweep.job.channels))
    groups = {
        name: {segment.group for segment in segments} - {None} for name, segments in unit_groups(network).layers.items()
    }
    frozen = set().union(*(groups[layer] for layer in layers[:prefix]))
    return frozenset(layer for layer in layers[prefix:] if groups[layer] & frozen)


def _record(
    sweep: PrefixSweep, condition: Condition, layer: str, result: ConditionScores, free: ConditionScores
) -> dict:
    of_layer = result.layers[layer]
    summary = summarise(of_layer)
    record = {
        "donor": condition.donor,
        "prefix": condition.prefix,
        "layer": layer,
        "fed_by_skip": layer in result.fed,
        "units": of_layer[0].pair.scores.units[0],
        "dead": sum(sum(assessment.pair.scores.dead) for assessment in of_layer) / (2 * len(of_layer)),
        "networks": len(result.seeds),
        "donor_seed": sweep.donor_seed if condition.prefix else None,
        "epochs": sweep.job.epochs,
        "optimizer": sweep.job.optimizer,
        "test_accuracy": result.accuracy,
        "correlated_on": sweep.split,
        "correlated_images": result.images,
        **{f"{field}{end}": summary[f"{field}{end}"] for field in (*SCORES, "share") for end in statistics.ENDS},
    }
    for name, estimate in _rises(condition, layer, result, free).items():
        record |= estimate.fields(name, 2 * bound(RISES.get(name, "share")))
    return record


def _rises(
    condition: Condition, layer: str, result: ConditionScores, free: ConditionScores
) -> dict[str, statistics.Estimate]:
    """Return the rises of a layer's scores and share over the free networks, by their names in a record."""
    if not condition.prefix:
        return dict.fromkeys((*RISES, "share_rise"), statistics.Estimate(None))
    rises = {
        name: statistics.rise(result.scores(layer, field), free.scores(layer, field)) for name, field in RISES.items()
    }
    both = ([of.scores(layer, field) for field in SHARE_OF] for of in (result, free))
    return rises | {"share_rise": statistics.rise_of_share(*both)}
