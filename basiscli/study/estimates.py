"""What a study would take before it starts: training measured on a few steps, the analyses by what they multiply.

The analyses are rough, within a factor of about three: they count multiply-adds and take the speed from training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from basiscli import names
from basiscli.analysis import passes
from basiscli.experiments import evolution, training
from basiscli.experiments.training import TrainingJob
from basiscli.files.datasets import load_dataset
from basiscli.nn.graph import Network
from basiscli.study.steps import Step
from basiscli.training import defaults
from basiscli.training.images import steps_per_epoch

SHIFTS = 9
# Multiply-adds of a rotated draw over units³: the rotation, turning the moments of two halves, matching twice.
PER_DRAW = 30
# What `rotate` takes if no kind is named.
KINDS = ("orthogonal", "permutation", "relu-symmetry", "identity")
# What `connectivity` takes if no correction is named: none, and the one that the network needs.
CORRECTIONS = ("none", "needed")
# A training step is three forward passes; above a rotation, layers from the first to the last are trained: half.
TRAINING, RETRAINING = 3, 1.5
# Seconds of processor time from the start of a command until it works, most of them for imports.
START = 1.5


@dataclass(frozen=True)
class _Trained:
    """What is known of the networks of a training step: how many, what one is, and multiply-adds a second.

    shown: images in an epoch.
    """

    seeds: int
    network: Network
    tested: int
    probed: int
    shown: int
    epochs: int
    multiply_adds: int
    speed: float


def of_steps(
    found: Sequence[Step], parse: Callable[[str, Sequence[str]], Mapping], why: Mapping[str, str | None]
) -> Iterator[dict]:
    """Yield a record for each step that is left, and one of all these: what they take on this machine.

    seconds: with the start of the command. memory_mb: while the step runs. disk_mb: of its networks. why: by name, why
    each step would run; None for one that is done or runs already, which is left out.
    """
    measured: dict[TrainingJob, dict] = {}
    trained: dict[str, _Trained] = {}
    left, of = sum(reason is not None for reason in why.values()), len(found)
    told = f"{left} steps" if left == of else f"{left} of {of} steps"
    total: dict[str, Any] = {"step": told, "networks": 0, "seconds": 0.0, "memory_mb": 0, "disk_mb": 0.0}
    for step in found:
        options = dict(parse(step.words[0], step.words[1:]))
        if step.words[0] == "train":
            job = TrainingJob.of(options)
            record = _training(job, measured)
            trained[step.name] = _known(job, record)
        elif step.words[0] == "evolve":
            record = _evolution(TrainingJob.of(options), options, measured)
        else:
            record = _analysis(step.words[0], options, [trained[name] for name in step.after])
        if why[step.name] is None:
            continue
        record = dict(record, seconds=round(record["seconds"] + START, 1))
        networks = len(options["seeds"]) if step.words[0] == "evolve" else len(step.files)
        row = {"step": step.name, "networks": networks} | {key: record[key] for key in list(total)[2:]}
        largest = max(total["memory_mb"], row["memory_mb"])
        total |= {key: total[key] + row[key] for key in ("networks", "seconds", "disk_mb")} | {"memory_mb": largest}
        yield row | {"command": step.command, "why": why[step.name]}
    yield total | {key: round(total[key], 1) for key in ("seconds", "disk_mb")} | {"command": None, "why": None}


def _training(job: TrainingJob, measured: dict[TrainingJob, dict]) -> dict:
    """Return the dry run of training, measured once for all that differ in their folder and donor."""
    key = replace(job, out=None, seeds=tuple(range(len(job.seeds))), donor=None, freeze_prefix=None, start_only=False)
    if key not in measured:
        (measured[key],) = training.dry_run(key)
    return measured[key]


def _known(job: TrainingJob, record: Mapping) -> _Trained:
    dataset = load_dataset(job.dataset, job.channels)
    network, job = training.plan(job, dataset)
    recipe = job.recipe()
    work = TRAINING * record["multiply_adds"] * job.batch_size * record["seeds_at_once"]
    return _Trained(
        seeds=len(job.seeds),
        network=network,
        tested=len(dataset.test.labels),
        probed=len(dataset.test.labels) * (SHIFTS if "shifts" in defaults.probe(dataset) else 1),
        shown=steps_per_epoch(dataset, recipe) * recipe.batch_size,
        epochs=max(record["epochs"], 1),
        multiply_adds=record["multiply_adds"],
        speed=work / max(record["step_seconds"], 1e-4),
    )


def _evolution(job: TrainingJob, options: Mapping, measured: dict[TrainingJob, dict]) -> dict:
    """Return what training takes, and looking at the networks after each kept epoch and the last."""
    job = replace(job, activations=False)
    record = _training(job, measured)
    trained = _known(job, record)
    kept = len(training.plan(job, load_dataset(job.dataset, job.channels))[1].kept_epochs()) + 1
    walked = {"matches": ("none", "activations"), "corrected": ("none",), "degrade": False} | dict(options)
    work = _connectivity(walked, trained) if options["barrier"] else _correlation(options, trained)
    seconds = record["seconds"] + kept * (work + _privilege(options, trained)) / trained.speed
    memory = max(record["memory_mb"], _analysis("correlate", options, [trained])["memory_mb"])
    return record | {"seconds": round(seconds, 1), "memory_mb": memory}


def _privilege(options: Mapping, one: _Trained) -> float:
    """Return the multiply-adds of the rotated draws of every network's activations, of `evolution.DRAWS` rotations."""
    units = sum(u**2 for u in _units(one))
    return one.seeds * one.probed * (one.multiply_adds + evolution.DRAWS * units)


def _analysis(command: str, options: Mapping, networks: Sequence[_Trained]) -> dict:
    work = {"rotate": _rotation, "correlate": _correlation, "freeze": _correlation, "connectivity": _connectivity}
    seconds = sum(work[command](options, one) / one.speed for one in networks)
    memory = max((passes.estimate(_units(one), one.seeds, one.probed) for one in networks), default=0)
    return {"seconds": round(seconds, 1), "memory_mb": round(memory / 1e6), "disk_mb": 0.0}


def _rotation(options: Mapping, one: _Trained) -> float:
    layers = len(names.choose(one.network.layers, options["layers"], "layers"))
    arms = layers * len(options["kinds"] or KINDS) * options["repeats"] * one.seeds
    return arms * RETRAINING * one.multiply_adds * one.shown * (options["epochs"] or one.epochs)


def _correlation(options: Mapping, one: _Trained) -> float:
    pairs = one.seeds * (one.seeds - 1) / 2
    moments = (one.seeds + pairs) * one.probed * sum(u**2 for u in _units(one))
    draws = pairs * options["draws"] * sum(PER_DRAW * u**3 for u in _units(one))
    return one.seeds * one.probed * one.multiply_adds + moments + draws


def _connectivity(options: Mapping, one: _Trained) -> float:
    matches, corrections = len(options["matches"]) + 2 * options["degrade"], len(options["corrected"] or CORRECTIONS)
    chords = one.seeds * (one.seeds - 1) / 2 * matches * corrections * options["points"]
    return chords * one.tested * one.multiply_adds + _correlation({"draws": options["draws"]}, one)


def _units(one: _Trained) -> list[int]:
    return [layer.units for layer in one.network.layers.values()]
