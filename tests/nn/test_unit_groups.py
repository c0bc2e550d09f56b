"""Groups of units, and networks in another basis that compute the same function."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.nn.graph import INPUT, Layer, Network, forward
from basiscli.nn.ops import convolution, dense, flatten, pointwise
from basiscli.nn.ops.node import Node
from basiscli.nn.unit_groups import Axis, Segment, permute_units, rotate_units, unit_groups
from tests.helpers.networks import IMAGE, MODELS, arrays_of, logits

SEEDS = (0, 1)  # those of `arrays_of`


@pytest.mark.parametrize("name", MODELS)
def test_a_permutation_of_every_group_keeps_the_function_and_changes_every_array(name):
    network = models.build(IMAGE | MODELS[name])
    found, arrays = unit_groups(network), arrays_of(network)
    rng = np.random.default_rng(2)
    permutations = {
        group: np.stack([np.roll(rng.permutation(units), 1) for _ in SEEDS]) for group, units in found.groups.items()
    }
    moved = permute_units(found, arrays, permutations)
    np.testing.assert_allclose(logits(network, moved), logits(network, arrays), rtol=1e-9, atol=1e-9)
    same = [path for path in arrays if np.array_equal(moved[path], arrays[path])]
    assert [path for path in same if not path.startswith("output/b") and "stream" not in path] == []
    back = permute_units(found, moved, {group: np.argsort(p, axis=1) for group, p in permutations.items()})
    assert all(np.array_equal(back[path], arrays[path]) for path in arrays)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet-A", "resnet-B", "wideresnet"])
def test_a_rotation_of_every_group_of_a_linear_network_keeps_the_function(name):
    network = models.build(IMAGE | MODELS[name] | {"norm": "none", "activation": "linear"})
    if name == "convnet":
        network = models.build(IMAGE | MODELS[name] | {"activation": "linear", "pooling": "average"})
    found, arrays = unit_groups(network), arrays_of(network)
    matrices = {
        group: np.stack([ortho_group.rvs(units, random_state=seed) for seed in SEEDS])
        for group, units in found.groups.items()
        if units > 1
    }
    turned = rotate_units(found, arrays, matrices)
    np.testing.assert_allclose(logits(network, turned), logits(network, arrays), rtol=1e-8, atol=1e-8)
    assert not np.allclose(turned["output/w"], arrays["output/w"])


def test_rotating_turns_the_activations_by_m():
    network = models.build(IMAGE | MODELS["mlp"] | {"activation": "linear"})
    found, arrays = unit_groups(network), arrays_of(network)
    m = np.stack([ortho_group.rvs(12, random_state=seed) for seed in SEEDS])
    turned = rotate_units(found, arrays, {"hidden1": m})
    images = np.random.default_rng(1).standard_normal((1, 4, 8, 8, 3))
    before, after = (forward(network, given, images, until="hidden1")[0] for given in (arrays, turned))
    np.testing.assert_allclose(after, np.einsum("sij,snj->sni", m, before), atol=1e-12)


def test_relu_commutes_with_permutations_times_positive_scales():
    network = models.build(IMAGE | MODELS["convnet"])
    found, arrays = unit_groups(network), arrays_of(network)
    rng = np.random.default_rng(3)
    m = np.stack([np.eye(9)[rng.permutation(9)] * rng.uniform(0.5, 2, 9) for _ in SEEDS])
    turned = rotate_units(found, arrays, {"conv2": m})
    np.testing.assert_allclose(logits(network, turned), logits(network, arrays), rtol=1e-9)


def test_a_residual_network_of_twenty_layers_has_the_twelve_groups_of_git_re_basin():
    for shortcut in ("A", "B"):
        groups = unit_groups(models.build({"model": "resnet", **IMAGE, "shortcut": shortcut})).groups
        assert len(groups) == 12
    # Git Re-Basin's specification by hand: the streams of the three widths, and the inside of each of nine blocks.
    assert groups == {
        "stem": 16, "block4/sum": 32, "block7/sum": 64,
        **{f"block{i}/conv1": units for i, units in zip(range(1, 10), [16] * 3 + [32] * 3 + [64] * 3, strict=True)},
    }  # fmt: skip


def test_shortcut_a_ties_a_narrow_stream_to_the_first_units_of_a_wider_one():
    found = unit_groups(models.build({"model": "resnet", **IMAGE}))
    assert found.layers["block7/sum"] == (
        Segment("stem", 0, 16),
        Segment("block4/sum[16:32]", 16, 32),
        Segment("block7/sum[32:64]", 32, 64),
    )
    assert {path for path, *_ in found.paths("block7/sum[32:64]")} == {
        *(f"block{i}/conv2/{name}" for i in (7, 8, 9) for name in ("w", "norm/scale", "norm/shift", "norm/mean")),
        *(f"block{i}/conv2/norm/variance" for i in (7, 8, 9)),
        *(f"block{i}/conv1/w" for i in (8, 9)),
        "output/w",
    }


def test_a_bottleneck_network_has_a_group_a_stage_and_two_inside_each_block():
    network = models.resnet(
        (32, 32, 3), 10, stage_blocks=(3, 4, 6, 3), stage_widths=(4, 8, 16, 32), block="bottleneck", shortcut="B",
        stem="imagenet",
    )  # fmt: skip
    inside = [(f"block{i}/conv{k}", width) for i, width in enumerate([4] * 3 + [8] * 4 + [16] * 6 + [32] * 3, 1)
              for k in (1, 2)]  # fmt: skip
    stages = [("stem", 4), ("block1/sum", 16), ("block4/sum", 32), ("block8/sum", 64), ("block14/sum", 128)]
    assert unit_groups(network).groups == dict(inside + stages)


def test_a_flattened_image_repeats_its_units():
    kernel = convolution.weights(3, 3, 5, 1, bias=True)
    nodes = (
        Node("conv", convolution, (INPUT,), {"stride": 1, "padding": 1}, kernel, (8, 8, 5)),
        Node("conv/relu", pointwise, ("conv",), {"function": "relu"}, {}, (8, 8, 5)),
        Node("flatten", flatten, ("conv/relu",), {}, {}, (320,)),
        Node("output", dense, ("flatten",), {}, dense.weights(320, 10, 1), (10,)),
    )  # fmt: skip
    network = Network(IMAGE, nodes, {"conv": Layer("conv", "conv/relu", 5)})
    found, arrays = unit_groups(network), arrays_of(network)
    assert found.axes["output/w"][-2] == Axis((Segment("conv", 0, 5),), 64, True)
    permutations = {"conv": np.array([[4, 0, 3, 1, 2], [1, 2, 3, 4, 0]])}
    moved = permute_units(found, arrays, permutations)
    np.testing.assert_allclose(logits(network, moved), logits(network, arrays), rtol=1e-9)


def test_what_cannot_be_done_is_refused():
    network = models.build(IMAGE | MODELS["vgg"])
    found, arrays = unit_groups(network), arrays_of(network)
    with pytest.raises(BadInput, match="conv1/norm/scale scales single units"):
        rotate_units(found, arrays, {"conv1": np.stack([np.eye(5)] * 2)})
    with pytest.raises(BadInput, match="conv9 of 5 units is no group"):
        permute_units(found, arrays, {"conv9": np.array([[0, 1, 2, 3, 4]])})
    with pytest.raises(BadInput, match="not a permutation"):
        permute_units(found, arrays, {"conv1": np.array([[0, 1, 2, 3, 3]])})
