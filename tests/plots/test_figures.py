"""Figures: they draw what they were given, also where little is there to draw, and are written whole."""

import re
import struct

import numpy as np
import pytest

from basiscli.analysis import passes
from basiscli.analysis.assess import CorrelationRequest, assess
from basiscli.analysis.barriers import Curve, evenly
from basiscli.plots import experiments, style
from basiscli.plots.networks import layers_figure, pair_figure
from basiscli.plots.style import diverging, save
from tests.helpers.features import relu_features
from tests.helpers.figures import assert_explains_itself, assert_readable
from tests.helpers.memory import MemorySource


def assessed(*networks: list[np.ndarray], request: CorrelationRequest) -> list:
    """Return the assessed pairs of each layer, from the layers' activations of each network."""
    sources = [
        MemorySource(f"{k}.h5", {f"layer{i}": array for i, array in enumerate(arrays)})
        for k, arrays in enumerate(networks)
    ]
    return [list(assess(found, request)) for found in passes.layer_moments(sources, passes.Reading(0, full=True))]


def texts(figure) -> str:
    return "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)


def told(figure) -> str:
    """Return the headline without its breaks of lines."""
    return figure.get_suptitle().replace("\n", " ")


@pytest.mark.parametrize("units", [(12, 12), (100, 90), (3, 12)], ids=str)
def test_a_pair(units, tmp_path):
    a, b = (relu_features(k, units=u) for k, u in enumerate(units))
    drawn = assessed([a, a], [b, b], request=CorrelationRequest())
    figure = pair_figure("a.h5", "b.h5", [one[0] for one in drawn])
    assert len(figure.axes) == 2 * 3 + 1
    assert "in sample (filled): mean" in texts(figure) and "held out (line): mean" in texts(figure)
    assert_readable(figure)
    assert_explains_itself(figure, "a.h5 and b.h5", "a unit of the first network a row")
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
    assert {"matched held out", "aligned ceiling", "rotated null", "the same units"} <= set(texts(figure).split("\n"))
    assert_readable(figure)
    pairs_of, bars = ("6 pairs of 4 networks", "bars: 95 %") if networks == 4 else ("one pair", "band: 95 %")
    assert_explains_itself(figure, pairs_of, bars)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["layer0", "layer1", "layer2"]
    save(figure, tmp_path / "layers.png")


def test_layers_without_a_null():
    drawn = assessed(*([relu_features(10 * k + i) for i in range(2)] for k in range(3)), request=CorrelationRequest())
    assert "aligned ceiling" not in texts(layers_figure(drawn))


def test_labels_do_not_cover_each_other():
    drawn = assessed(*([relu_features(k)] * 2 for k in range(3)), request=CorrelationRequest(("rotated",), 5))
    assert_readable(layers_figure(drawn))


def test_labels_are_spread_as_little_as_they_must():
    np.testing.assert_allclose(style.spread([10, 50, 90], 10, 0, 100), [10, 50, 90])
    np.testing.assert_allclose(style.spread([40, 40, 40], 10, 0, 100), [30, 40, 50])
    np.testing.assert_allclose(style.spread([0, 0, 98], 10, 0, 100), [5, 15, 95])
    assert not len(style.spread([], 10, 0, 100))


def test_names_of_files_lose_their_common_folder():
    assert style.shared_folder(["runs/m/a.h5", "runs/m/b.h5"]) == "a.h5 and b.h5, both in runs/m"
    assert style.shared_folder(["a.h5", "runs/b.h5"]) == "a.h5 and runs/b.h5"
    assert style.shared_folder(["a.h5", "b.h5"]) == "a.h5 and b.h5"


def sweep_record(donor: str, prefix: int, layer: str, score: float, interval: float | None = 0.01) -> dict:
    """A record of `basiscli freeze`, as far as it is drawn."""
    fields = {
        "donor": donor,
        "prefix": prefix,
        "layer": layer,
        "networks": 4,
        "standardised_rotated_held_out_mean": 0.3,
    }
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
    assert sorted(texts(figure).split("\n")) == sorted(names * 2 * max(len(donors), 1))
    assert_readable(figure)
    assert_explains_itself(figure, "networks that share their first layers", "4 seeds", "bars: 95 % intervals")
    save(figure, tmp_path / "prefixes.png")


@pytest.mark.parametrize("layers", [2, 3])
def test_a_single_prefix(layers):
    drawn = [sweep_record("free", 0, f"hidden{k}", 0.5) for k in range(1, layers + 1)]
    drawn += [sweep_record(d, 1, f"hidden{k}", 0.5) for d in ("trained", "initial") for k in range(2, layers + 1)]
    assert_readable(experiments.prefixes_figure(drawn))


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
    assert_readable(figure)
    assert_explains_itself(figure, "(mlp, relu)", "networks: 5, repeats: 3; bars: 95 % intervals")
    assert "M before the nonlinearity of one layer; the layers after M drawn anew and trained" in told(figure)
    turned = [record | {"retrain": "none", "tap": "post", "cumulative": True} for record in powers]
    words = "M after the nonlinearity of every layer up to the one named; nothing trained"
    assert words in told(experiments.rotations_figure(turned))
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
    files = [f"runs/seed{k}.h5" for k in range(networks)]
    figure = experiments.paths_figure({(name, split): pairs_of for split in ("test", "train") for name in names}, files)
    assert len(figure.axes) == 4 and all(len(axis.lines) == 3 for axis in figure.axes)
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "not matched", "activations", "activations, repair",
    ]  # fmt: skip
    assert_readable(figure)
    means = ("seed0.h5 and seed1.h5, both in runs",) if networks == 2 else ("3 pairs", "over 3 networks")
    assert_explains_itself(figure, "straight line", *means)
    assert figure.axes[0].get_title(loc="left") == "test images"
    mean = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(mean, np.mean([curve.loss for curve in pairs_of.values()], axis=0))
    save(figure, tmp_path / "paths.png")


MATCHES = ("none", "activations", "activations-degraded", "activations-fewer-images", "weights", "weights-degraded")


def sweep_of_widths(matches: tuple[str, ...], corrections: tuple[str, ...] = ("none", "repair")) -> list[dict]:
    """Return records of `basiscli connectivity`, as far as they are drawn; `repair` has the lower barriers."""
    scores = ("barrier", "correlation", "matched_held_out")
    scores += ("standardised_rotated_held_out_mean", "standardised_aligned_held_out")
    return [
        {"width": width, "match": match, "correct": correct, "split": "test", "networks": 3}
        | {
            f"{name}{end}": None if value is None else value + matches.index(match) / 100 - 0.1 * (correct == "repair")
            for name in scores
            for end, value in (("", 0.5), ("_low", 0.4), ("_high", None))
        }
        for width in (1, 0.25)
        for match in matches
        for correct in corrections
    ]


def test_barrier_and_correlation_against_width(tmp_path):
    """Of twelve conditions: the one that decides, with its degraded matches, beside the barrier without a match."""
    figure = experiments.connectivity_figure(sweep_of_widths(MATCHES))
    assert_readable(figure)
    assert_explains_itself(figure, "matched by activations and corrected by repair", "intervals over 3 networks")
    assert "the table has 8 other conditions" in told(figure)
    barriers, correlations = figure.axes
    assert [len(axis.containers) for axis in figure.axes] == [4, 3 + 2]
    assert barriers.lines[0].get_ydata() == pytest.approx(0.4)
    assert {text.get_text() for text in barriers.texts} == {
        "not matched", "matched", "degraded (circle)", "degraded (fewer images)",
    }  # fmt: skip
    assert {"aligned ceiling", "rotated null"} < {text.get_text() for text in correlations.texts}
    assert [label.get_text() for label in barriers.get_xticklabels()] == ["0.25", "1"]
    save(figure, tmp_path / "connectivity.png")


def test_without_a_match_every_barrier_is_that_of_the_networks_as_they_are():
    figure = experiments.connectivity_figure(sweep_of_widths(("none",), ("none",)))
    assert [text.get_text() for text in figure.axes[0].texts] == ["not matched"]
    assert "other conditions" not in told(figure)


def pages(path) -> tuple[float, float]:
    """Return width and height of a figure's file in inches."""
    content = path.read_bytes()
    if path.suffix == ".png":
        return tuple(pixels / style.DPI for pixels in struct.unpack(">II", content[16:24]))
    svg, pdf = rb'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', rb"/MediaBox \[ 0 0 (\S+) (\S+) \]"
    found = re.search(svg if path.suffix == ".svg" else pdf, content)
    return tuple(float(points) / 72 for points in found.groups())


def test_the_three_formats_have_one_size_and_bring_their_letters(tmp_path):
    figure = experiments.connectivity_figure(sweep_of_widths(MATCHES))
    for suffix in style.FORMATS:
        save(figure, tmp_path / f"one{suffix}")
        assert pages(tmp_path / f"one{suffix}") == pytest.approx(tuple(figure.get_size_inches()), abs=0.01)
    assert "<text" not in (tmp_path / "one.svg").read_text()  # letters are outlines: no font is looked for
    pdf = (tmp_path / "one.pdf").read_bytes()
    assert pdf.count(b"/Type /Font ") == pdf.count(b"/Subtype /Type3") > 0  # outlines in the file, too
