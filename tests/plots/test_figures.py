"""Figures: they draw what they were given, also where little is there to draw, and are written whole."""

import numpy as np
import pytest

from basiscli.analysis import pairs
from basiscli.analysis.assess import CorrelationRequest, assess
from basiscli.analysis.barriers import Curve, evenly
from basiscli.plots import experiments
from basiscli.plots.networks import layers_figure, pair_figure
from basiscli.plots.style import diverging, save
from tests.helpers.features import relu_features
from tests.helpers.memory import MemorySource


def assessed(*networks: list[np.ndarray], request: CorrelationRequest) -> list:
    """Return the assessed pairs of each layer, from the layers' activations of each network."""
    sources = [
        MemorySource(f"{k}.h5", {f"layer{i}": array for i, array in enumerate(arrays)})
        for k, arrays in enumerate(networks)
    ]
    return [list(assess(found, request)) for found in pairs.layer_moments(sources, 0, full=True)]


def texts(figure) -> str:
    return "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)


@pytest.mark.parametrize("units", [(12, 12), (100, 90), (3, 12)], ids=str)
def test_a_pair(units, tmp_path):
    a, b = (relu_features(k, units=u) for k, u in enumerate(units))
    drawn = assessed([a, a], [b, b], request=CorrelationRequest())
    figure = pair_figure("a.h5", "b.h5", [one[0] for one in drawn])
    assert len(figure.axes) == 2 * 3 + 1
    assert "in sample" in texts(figure) and "held out" in texts(figure)
    save(figure, tmp_path / "pair.png")
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["pair.png"]


def test_a_pair_beside_its_null():
    drawn = assessed([relu_features(0)], [relu_features(1)], request=CorrelationRequest(("rotated",), 5))
    assert "rotated" in texts(pair_figure("a.h5", "b.h5", drawn[0]))


def test_matching_brings_a_permutation_to_the_diagonal():
    a = relu_features(0)
    drawn = assessed([a], [a[:, ::-1]], request=CorrelationRequest())
    _, after = (axis.images[0].get_array() for axis in pair_figure("a", "b", drawn[0]).axes[:2])
    np.testing.assert_allclose(np.diag(after), 1, atol=1e-5)


def test_a_layer_without_held_out_scores(tmp_path):
    drawn = assessed(
        [relu_features(0, rows=2)], [relu_features(1, rows=2)], request=CorrelationRequest(("rotated",), 3)
    )
    save(pair_figure("a", "b", drawn[0]), tmp_path / "pair.png")
    save(layers_figure(drawn * 2), tmp_path / "layers.png")


@pytest.mark.parametrize("networks", [2, 4])
def test_layers(networks, tmp_path):
    drawn = assessed(
        *([relu_features(10 * k + i) for i in range(3)] for k in range(networks)),
        request=CorrelationRequest(("rotated",), 5),
    )
    figure = layers_figure(drawn)
    assert {"matched held out", "aligned ceiling", "rotated null", "one basis"} <= set(texts(figure).split("\n"))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["layer0", "layer1", "layer2"]
    save(figure, tmp_path / "layers.png")


def test_layers_without_a_null():
    drawn = assessed(*([relu_features(10 * k + i) for i in range(2)] for k in range(3)), request=CorrelationRequest())
    assert "aligned ceiling" not in texts(layers_figure(drawn))


def test_labels_do_not_cover_each_other():
    drawn = assessed(*([relu_features(k)] * 2 for k in range(3)), request=CorrelationRequest(("rotated",), 5))
    heights = sorted(text.xy[1] for text in layers_figure(drawn).axes[0].texts)
    assert min(np.diff(heights)) > 0.04


def sweep_record(donor: str, prefix: int, layer: str, score: float, interval: float | None = 0.01) -> dict:
    """A record of `basiscli freeze`, as far as it is drawn."""
    fields = {"donor": donor, "prefix": prefix, "layer": layer, "standardised_rotated_held_out_mean": 0.3}
    for field, value in (("matched_held_out", score), ("standardised_rotated_held_out_excess", score - 0.3)):
        ends = (None, None) if interval is None else (value - interval, value + interval)
        fields |= dict(zip((field, f"{field}_low", f"{field}_high"), (value, *ends), strict=True))
    return fields


@pytest.mark.parametrize("donors, interval", [(("trained", "initial"), 0.01), (("initial",), None), ((), 0.01)])
def test_prefixes(donors, interval, tmp_path):
    drawn = [sweep_record("free", 0, f"hidden{k}", 0.5, interval) for k in (1, 2, 3)]
    for donor in donors:
        drawn += [sweep_record(donor, k, f"hidden{j}", 0.6, interval) for k in (1, 2) for j in range(k + 1, 4)]
    figure = experiments.prefixes_figure(drawn)
    assert len(figure.axes) == 2 * max(len(donors), 1)
    names = ["first 2 shared", "first layer shared", "none shared"] if donors else ["none shared"]
    assert sorted(texts(figure).split("\n")) == sorted(names * max(len(donors), 1))
    save(figure, tmp_path / "prefixes.png")


def test_colours_are_even():
    """White in the middle, as dark at either end."""
    rgb = diverging()(np.array([0.0, 0.5, 1.0]))[:, :3]
    light = rgb @ [0.2126, 0.7152, 0.0722]
    assert light[1] > 0.9
    assert abs(light[0] - light[2]) < 0.12
    assert rgb[0, 2] > rgb[0, 0] and rgb[2, 0] > rgb[2, 2]


def test_a_failed_figure_leaves_nothing(tmp_path):
    drawn = assessed([relu_features(0)], [relu_features(1)], request=CorrelationRequest())
    with pytest.raises(OSError):
        save(pair_figure("a", "b", drawn[0]), tmp_path / "nowhere" / "pair.png")
    assert list(tmp_path.iterdir()) == []


def rotation_record(layer: str, kind: str, power: float = 1, over: str = "identity", **penalty: float | None) -> dict:
    """A record of `basiscli rotate`, as far as it is drawn."""
    fields = {"layer": layer, "kind": kind, "power": power, "over": over, "model": "mlp", "activation": "relu"}
    fields |= {"tap": "pre", "retrain": "downstream", "start": "reinit", "cumulative": False}
    fields |= {"networks": 5, "repeats": 3}
    for field in ("penalty_accuracy", "penalty_train_loss"):
        value = penalty.get("value", 0.02)
        ends = (None, None) if value is None else (value - 0.01, value + 0.01)
        fields |= dict(zip((field, f"{field}_low", f"{field}_high"), (value, *ends), strict=True))
    return fields


def test_rotations(tmp_path):
    kinds = ("orthogonal", "permutation", "identity")
    drawn = [rotation_record(layer, kind) for layer in ("hidden1", "hidden2") for kind in kinds]
    contrasts = [rotation_record(layer, "orthogonal", over="permutation", value=9) for layer in ("hidden1", "hidden2")]
    figure = experiments.rotations_figure(drawn + contrasts)
    assert len(figure.axes) == 2 and max(axis.get_ylim()[1] for axis in figure.axes) < 5
    assert sorted(texts(figure).split("\n")) == ["orthogonal", "orthogonal", "permutation", "permutation"]
    powers = [rotation_record(layer, "orthogonal", 0.5) for layer in ("hidden1", "hidden2")]
    figure = experiments.rotations_figure(drawn + powers)
    assert len(figure.axes) == 4 and "hidden2" in texts(figure)
    line = figure.axes[0].lines[0].get_ydata()
    assert line.tolist() == pytest.approx([2, 2])
    assert figure.get_suptitle().splitlines() == [
        "mlp, relu: M before the nonlinearity of one layer; the layers after M drawn anew and trained",
        "what M costs over the identity, trained alike; networks: 5, repeats: 3, 95 % intervals",
    ]
    turned = [record | {"retrain": "none", "tap": "post", "cumulative": True} for record in powers]
    assert "M after the nonlinearity of every layer up to the one named; nothing trained" in (
        experiments.rotations_figure(turned).get_suptitle()
    )
    assert "orthogonal^0.5" in texts(experiments.rotations_figure(turned))
    save(figure, tmp_path / "rotations.png")


def test_rotations_that_all_failed_draw_nothing(tmp_path):
    figure = experiments.rotations_figure(
        [rotation_record("hidden1", kind, value=None) for kind in ("orthogonal", "identity")]
    )
    assert not texts(figure)
    save(figure, tmp_path / "rotations.png")


def parabola(height: float) -> Curve:
    lambdas = evenly(5)
    return Curve(lambdas, 0.1 + height * lambdas * (1 - lambdas), 0.9 - height * lambdas * (1 - lambdas))


@pytest.mark.parametrize("networks", [2, 3])
def test_paths(networks, tmp_path):
    pairs_of = {(a, b): parabola(0.1 * (a + b)) for a in range(networks) for b in range(a + 1, networks)}
    names = [("none", "none"), ("activations", "none"), ("activations", "repair")]
    figure = experiments.paths_figure({(name, split): pairs_of for split in ("test", "train") for name in names})
    assert len(figure.axes) == 4 and all(len(axis.lines) == 3 for axis in figure.axes)
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "not matched", "activations", "activations, repair",
    ]  # fmt: skip
    told = f"test images: means of 3 pairs, 95 % intervals over {networks} networks"
    assert figure.axes[0].get_title(loc="left") == (told if networks == 3 else "test images")
    mean = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(mean, np.mean([curve.loss for curve in pairs_of.values()], axis=0))
    save(figure, tmp_path / "paths.png")


def test_barrier_and_correlation_against_width(tmp_path):
    scores = (
        "barrier",
        "correlation",
        "matched_held_out",
        "standardised_rotated_held_out_mean",
        "standardised_aligned_held_out",
    )
    records = [
        {"width": width, "match": match, "correct": correct, "split": "test", "networks": 3}
        | {f"{name}{end}": value for name in scores for end, value in (("", 0.5), ("_low", 0.4), ("_high", None))}
        for width in (1, 0.25)
        for match in ("none", "activations", "activations-degraded")
        for correct in ("none", "repair")
    ]
    figure = experiments.connectivity_figure(records)
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[-1] == "activations-degraded, repair" and len(labels) == 6
    assert [len(axis.containers) for axis in figure.axes] == [6, 2 + 3]
    assert "aligned ceiling" in texts(figure)
    assert "intervals over 3 networks" in figure.axes[0].get_title(loc="left")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.25", "1"]
    save(figure, tmp_path / "connectivity.png")
