"""What commands print and write, beside plain numpy in float64 that knows nothing of graphs, kernels and ops.

Two networks are written out by hand: an MLP of two hidden layers, and a ResNet of one block a stage, shortcut A.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from basiscli import data
from basiscli.analysis import random_maps
from basiscli.files import hdf5
from basiscli.rng import generator
from tests.helpers.command_line import done
from tests.helpers.files import arrays_in

MODELS = {
    "mlp": ("--hidden", "16,12"),
    "resnet": ("--model", "resnet", "--depth", 8, "--width", 0.25),
}
TRAINING = ("--epochs", 2, "--batch-size", 64, "--augment", "none", "--no-activations", "--seeds", 2)
LAMBDAS = (0, 0.25, 0.5, 0.75, 1)
EPSILON = 1e-5
Arrays = dict[str, np.ndarray]
# What is done to what a map or a normalisation makes, given the name of the layer.
Change = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, list[Path]]:
    """Two networks of each model."""
    folder, found = tmp_path_factory.mktemp("trained"), {}
    for name, model in MODELS.items():
        records = done("train", *model, *TRAINING, "--out", folder / name).records
        found[name] = [Path(record["path"]) for record in records]
    return found


def exact_arrays(path: Path) -> Arrays:
    return {name: values.astype(np.float64) for name, values in arrays_in(path).items()}


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardised as training does, each channel by the training images' mean and deviation."""
    digits = data.load("digits")
    pixels = digits.train.images.astype(np.float64)
    part = getattr(digits, split)
    return (part.images - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2)), part.labels


def unchanged(name: str, x: np.ndarray) -> np.ndarray:
    return x


def mlp(p: Arrays, x: np.ndarray, change: Change = unchanged) -> np.ndarray:
    x = x.reshape(len(x), -1)
    for name in ("hidden1", "hidden2"):
        x = np.maximum(change(name, x @ p[f"{name}/w"] + p[f"{name}/b"]), 0)
    return x @ p["output/w"] + p["output/b"]


def convolved(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """3 × 3, one pixel of zeros around."""
    windows = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows[:, ::stride, ::stride], w, optimize=True)


def resnet(p: Arrays, x: np.ndarray, change: Change = unchanged) -> np.ndarray:
    def layer(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        x = convolved(x, p[f"{name}/w"], stride)
        mean, variance, scale, shift = (p[f"{name}/norm/{part}"] for part in ("mean", "variance", "scale", "shift"))
        if change is not unchanged:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            p[f"{name}/norm/mean"], p[f"{name}/norm/variance"] = mean, variance
        return scale * (x - mean) / np.sqrt(variance + EPSILON) + shift

    x = np.maximum(layer("stem", x), 0)
    for block, stride in (("block1", 1), ("block2", 2), ("block3", 2)):
        inner = np.maximum(layer(f"{block}/conv1", x, stride), 0)
        inner, skip = layer(f"{block}/conv2", inner), x[:, ::stride, ::stride]
        skip = np.pad(skip, ((0, 0), (0, 0), (0, 0), (0, inner.shape[-1] - skip.shape[-1])))
        x = np.maximum(inner + skip, 0)
    return x.mean((1, 2)) @ p["output/w"] + p["output/b"]


FORWARD = {"mlp": mlp, "resnet": resnet}


def scores(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(1) == labels).mean())


def mixed(ends: list[Arrays], share: float) -> Arrays:
    return {name: (1 - share) * values + share * ends[1][name] for name, values in ends[0].items()}


def repaired(ends: list[Arrays], share: float) -> Arrays:
    """The MLP at λ whose preactivations, over all training images, have the mixed means and deviations."""
    x, _ = images("train")
    seen: list[dict] = []
    for end in ends:
        seen.append({})
        mlp(end, x, lambda name, z, found=seen[-1]: found.setdefault(name, z))
    p = mixed(ends, share)

    def corrected(name: str, z: np.ndarray) -> np.ndarray:
        (mean_a, deviation_a), (mean_b, deviation_b) = (
            (found[name].mean(0), np.sqrt(found[name].var(0) + EPSILON)) for found in seen
        )
        gain = ((1 - share) * deviation_a + share * deviation_b) / np.sqrt(z.var(0) + EPSILON)
        p[f"{name}/b"] = (p[f"{name}/b"] - z.mean(0)) * gain + (1 - share) * mean_a + share * mean_b
        p[f"{name}/w"] = p[f"{name}/w"] * gain
        return (z - z.mean(0)) * gain + (1 - share) * mean_a + share * mean_b

    mlp(p, x, corrected)
    return p


def reset(ends: list[Arrays], share: float) -> Arrays:
    """The ResNet at λ whose normalisations have the statistics of all training images."""
    p = mixed(ends, share)
    resnet(p, images("train")[0], lambda name, x: x)
    return p


CORRECTED = {"mlp": {"none": mixed, "repair": repaired}, "resnet": {"none": mixed, "reset-bn": reset}}


@pytest.mark.parametrize("name", MODELS)
def test_losses_along_a_path(trained, name):
    ends = [exact_arrays(path) for path in trained[name]]
    options = ("--match", "none", "--points", len(LAMBDAS), "--split", "test,train", "--correct-on", 1200)
    records = done("interpolate", *trained[name], *options).records
    assert [(record["correct"], record["split"]) for record in records] == [
        (correct, split) for correct in CORRECTED[name] for split in ("test", "train")
    ]
    for record in records:
        x, labels = images(record["split"])
        wanted = [
            scores(FORWARD[name](CORRECTED[name][record["correct"]](ends, share), x), labels) for share in LAMBDAS
        ]
        loss, accuracy = np.array(wanted).T
        np.testing.assert_allclose(record["loss"], loss, rtol=2e-5, err_msg=record["correct"])
        np.testing.assert_allclose(record["accuracy"], accuracy, atol=1.5 / len(labels))
        heights = loss - ((1 - np.array(LAMBDAS)) * loss[0] + np.array(LAMBDAS) * loss[-1])
        assert record["barrier"] == pytest.approx(heights.max(), rel=1e-4)
        assert record["midpoint"] == pytest.approx(heights[2], rel=1e-4)
        assert record["barrier_at"] == LAMBDAS[int(heights.argmax())]


def test_activations_are_matched_by_their_correlation_after_relu(trained, tmp_path):
    ends, (x, _) = [exact_arrays(path) for path in trained["mlp"]], images("train")
    seen: list[dict] = [{}, {}]
    for end, found in zip(ends, seen, strict=True):
        mlp(end, x, lambda name, z, found=found: found.setdefault(name, z))
    records = done("match", *trained["mlp"], "--by", "activations", "--out", tmp_path / "p.h5").records
    with hdf5.reading(tmp_path / "p.h5") as file:
        kept = file.arrays("permutations/1")
    for record in records[:2]:
        name = record["group"]
        a, b = (np.maximum(found[name], 0) for found in seen)
        with np.errstate(invalid="ignore"):
            r = np.nan_to_num(np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :])
        best = linear_sum_assignment(-r)
        assert record["correlation_after"] == pytest.approx(r[best].mean(), abs=1e-5)
        assert r[np.arange(len(r)), kept[name]].mean() == pytest.approx(r[best].mean(), abs=1e-5)
        assert record["correlation_before"] == pytest.approx(r.diagonal().mean(), abs=1e-5)


@pytest.mark.parametrize("kind", ["orthogonal", "permutation", "relu-symmetry"])
def test_a_rotated_network_is_one_with_m_before_relu(trained, kind, tmp_path):
    """Accuracy and loss are those of φ(M (W x + b)), with M drawn anew here; the file holds Mᵀ."""
    options = ("--retrain", "none", "--layer", "hidden1", "--kind", kind, "--repeats", 2, "--out", tmp_path)
    records = done("rotate", trained["mlp"][1], *options).records
    p, (x, labels), found = exact_arrays(trained["mlp"][1]), images("test"), []
    for repeat in range(2):
        m = random_maps.draw(kind, generator(1000 * (1 + 1) + repeat, "rotation", kind, "hidden1"), 16)
        stored = exact_arrays(tmp_path / f"pre-none/hidden1/{kind}/seed1-repeat{repeat}.h5")["hidden1/rotation/w"]
        np.testing.assert_allclose(stored, m.T, atol=1e-6)
        logits = mlp(p, x, lambda name, z, m=m: np.einsum("ij,nj->ni", m, z) if name == "hidden1" else z)
        found.append(scores(logits, labels))
    (record,) = (one for one in records if one["kind"] == kind)
    loss, accuracy = np.mean(found, axis=0)
    assert record["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert record["test_accuracy"] == pytest.approx(accuracy, abs=1 / len(labels))
    base = scores(mlp(p, x), labels)
    assert record["penalty_test_loss"] == pytest.approx(loss - base[0], rel=1e-4)


def test_the_reconstruction_error_is_of_the_inverse_rotation(trained, tmp_path):
    """Of M⁻¹ h, which a ReLU layer would have to give so that M after it gives h, on the first test images."""
    options = ("--retrain", "none", "--tap", "post", "--layer", "hidden2", "--kind", "orthogonal", "--repeats", 1)
    records = done("rotate", trained["mlp"][0], *options, "--out", tmp_path).records
    seen: dict = {}
    mlp(exact_arrays(trained["mlp"][0]), images("test")[0], lambda name, z: seen.setdefault(name, z))
    h = np.maximum(seen["hidden2"], 0)
    m = random_maps.draw("orthogonal", generator(1000, "rotation", "orthogonal", "hidden2"), 12)
    wanted = np.linalg.solve(m, h.T)
    error = np.square(np.minimum(wanted, 0)).sum() / np.square(h).sum()
    other = np.square(np.minimum(m @ h.T, 0)).sum() / np.square(h).sum()
    assert abs(error - other) > 1e-3
    assert records[0]["reconstruction_error"] == pytest.approx(error, rel=1e-5)
