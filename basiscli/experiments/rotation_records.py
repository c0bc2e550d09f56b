"""Records of the rotation experiment: every arm over the identity and the controls, and fields without training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from basiscli.alignment.same_function import logit_difference
from basiscli.analysis import random_maps, statistics
from basiscli.analysis.random_maps import IDENTITY, ORTHOGONAL, PERMUTATION, SYMMETRY
from basiscli.errors import BadInput
from basiscli.experiments import rotation_sites
from basiscli.experiments.rotation_experiment import Experiment, Result, slice_seed
from basiscli.experiments.rotation_sites import POST, UPSTREAM, Arm, Site, Slice
from basiscli.nn.graph import predict
from basiscli.training.images import probe_batch

# The controls that orthogonal arms are compared with, in pairs.
CONTROLS = (PERMUTATION, SYMMETRY)
# Penalties, positive if the arm is worse: the field that they compare, and its sign.
PENALTIES = {
    "penalty_accuracy": ("test_accuracy", -1),
    "penalty_test_loss": ("test_loss", 1),
    "penalty_train_loss": ("train_loss", 1),
}
MEASURED = ("test_accuracy", "test_loss", "train_loss")
# Test images for the folded inverse and for the reconstruction error.
SHOWN = 1000


def site_records(experiment: Experiment, site: Site, results: Mapping[Slice, Mapping[int, Result]]) -> Iterator[dict]:
    """Yield the records of a site: every arm over the identity, then orthogonal over the controls."""
    protocol, exact = experiment.protocol, _exact(experiment, site)
    by_arm: dict[Arm, dict[tuple[int, int], Result]] = {arm: {} for arm in protocol.arms}
    for part, of_networks in results.items():
        by_arm[part.arm] |= {(place, part.repeat): result for place, result in of_networks.items()}
    for arm, results_of_arm in by_arm.items():
        yield _record(experiment, site, arm, results_of_arm, IDENTITY, by_arm[Arm(IDENTITY)]) | exact[arm]
    turned = [arm for arm in protocol.arms if arm.kind == ORTHOGONAL]
    for control in CONTROLS:
        for arm in turned:
            if Arm(control) in by_arm:
                yield _record(experiment, site, arm, by_arm[arm], control, by_arm[Arm(control)]) | exact[arm]


def _record(
    experiment: Experiment,
    site: Site,
    arm: Arm,
    results: Mapping[tuple[int, int], Result],
    over: str,
    reference: Mapping[tuple[int, int], Result],
) -> dict:
    protocol, architecture = experiment.protocol, site.network.architecture
    histories = [network.file.history.get("test_accuracy", np.empty(0)) for network in experiment.networks]
    good = {run: result for run, result in results.items() if not result.failed}
    pairs = [run for run in good if not reference[run].failed]
    record = {
        "layer": site.layer,
        "kind": arm.kind,
        "over": over,
        "power": arm.power,
        "tap": protocol.tap,
        "retrain": protocol.retrain,
        "start": protocol.start,
        "cumulative": protocol.cumulative,
        "model": architecture["model"],
        "activation": architecture["activation"],
        "units": site.units,
        "parameters": site.parameters,
        "networks": len(experiment.networks),
        "repeats": protocol.repeats,
        "epochs": experiment.recipe.epochs,
        "trained_epochs": experiment.networks[0].file.training.get("epochs"),
        "optimizer": experiment.recipe.optimizer,
        "pairs": len(pairs),
        "failed": len(results) - len(good),
        "base_accuracy": _mean(values[-1] for values in histories if len(values)),
        **{name: _mean(getattr(result, name) for result in good.values()) for name in MEASURED},
    }
    for name, (field, sign) in PENALTIES.items():
        values = {run: sign * (getattr(good[run], field) - getattr(reference[run], field)) for run in pairs}
        record |= statistics.over_runs(values).fields(name)
    return record | _log_losses(len(experiment.networks), good, reference, pairs)


def _log_losses(
    networks: int,
    results: Mapping[tuple[int, int], Result],
    reference: Mapping[tuple[int, int], Result],
    pairs: Sequence[tuple[int, int]],
) -> dict:
    """Return ln(training loss / that of the reference): the mean and its interval, and the mean of each network."""
    losses = {run: (results[run].train_loss, reference[run].train_loss) for run in pairs}
    ratios = {run: float(np.log(loss / other)) for run, (loss, other) in losses.items() if min(loss, other) > 0}
    of_network = statistics.means_of_networks(ratios)
    fields = statistics.over_runs(ratios).fields("log_loss_ratio")
    return fields | {"log_loss_ratios": [of_network.get(place) for place in range(networks)]}


def _exact(experiment: Experiment, site: Site) -> dict[Arm, dict[str, float | None]]:
    """Return, for each arm, the fields without training: the residual of folding, the reconstruction error."""
    residuals: dict[Arm, list[float | None]] = {arm: [] for arm in experiment.protocol.arms}
    errors: dict[Arm, list[float]] = {arm: [] for arm in experiment.protocol.arms}
    rectified = experiment.protocol.tap == POST and site.network.architecture["activation"] == "relu"
    for network in experiment.networks:
        rows = range(min(SHOWN, len(experiment.dataset.test.labels)))
        images, _ = probe_batch(experiment.dataset.test, network.standard, rows)
        tap = network.network.tap(site.layer, POST)
        logits, kept = predict(network.network, network.arrays, images, keep=[tap])
        for part in experiment.protocol.slices:
            w = rotation_sites.matrices(site, part, slice_seed(network, part))
            arrays = network.arrays | {path: values[None] for path, values in w.items()}
            upstream = experiment.protocol.retrain == UPSTREAM
            residuals[part.arm].append(fold_residual(site, arrays, upstream, images, logits))
            if rectified:
                m = w[f"{site.layer}/rotation/w"].T.astype(np.float64)
                errors[part.arm] += list(random_maps.reconstruction_errors([kept[tap]], m[None]))
    return {
        arm: {
            "fold_residual": _largest(residuals[arm]),
            "reconstruction_error": float(np.mean(errors[arm])) if rectified else None,
        }
        for arm in residuals
    }


def fold_residual(
    site: Site, arrays: Mapping[str, np.ndarray], upstream: bool, images: np.ndarray, logits: np.ndarray
) -> float | None:
    """Return the difference of a network in which M is folded away from the original one, whose logits are given.

    It is the largest difference of a logit over the largest logit. None if M cannot be folded
    (`rotation_sites.folded`), or not into the retrained arrays alone.
    """
    try:
        changed = rotation_sites.folded(site.network, arrays, upstream)
    except BadInput:
        return None
    touched = {path.rpartition("/")[0] for path in arrays if not np.array_equal(changed[path], arrays[path])}
    if site.retrained and touched - {path.rpartition("/")[0] for path in site.retrained}:
        return None
    return logit_difference(logits, predict(site.network, changed, images)[0])


def _largest(values: Sequence[float | None]) -> float | None:
    """Return the largest value, None if any value is None."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None
