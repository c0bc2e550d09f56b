"""Where fixed maps go, what is frozen around them, and their exact inverse by folding."""

import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.experiments import rotation_sites
from basiscli.experiments.rotation_sites import Arm, Protocol, Slice
from basiscli.nn import fixed_maps, models
from basiscli.nn.graph import Network, forward
from basiscli.nn.unit_groups import unit_groups
from basiscli.rng import generator
from tests.helpers.networks import arrays_of

IMAGE = {"input_shape": [8, 8, 3], "classes": 10}
MODELS = {
    "mlp": {"model": "mlp", "hidden": [12, 7]},
    "convnet": {"model": "convnet", "layout": [5, "pool", 9, 6]},
    "means": {"model": "convnet", "layout": [5, "pool", 9, 6], "pooling": "average"},
    "vgg": {"model": "vgg", "layout": [5, "pool", 9, 6]},
    "resnet": {"model": "resnet", "depth": 14, "width": 0.25},
    "plain resnet": {"model": "resnet", "depth": 14, "width": 0.25, "norm": "none"},
    "resnet B": {"model": "resnet", "depth": 8, "width": 0.25, "shortcut": "B"},
    "wideresnet": {"model": "wideresnet", "depth": 10, "width": 0.5, "dropout": 0.3},
    "plain wideresnet": {"model": "wideresnet", "depth": 16, "width": 1, "norm": "none"},
}


def network_of(name: str, **changes) -> Network:
    return models.build(IMAGE | MODELS[name] | changes)


def protocol(**changes) -> Protocol:
    given = dict(
        kinds=None, powers=(1.0,), tap="pre", retrain="downstream", start=None, cumulative=False, repeats=1,
        epochs=None, lr=None, clip=1.0, augment=None,
    )  # fmt: skip
    return Protocol(**given | changes)


def site(network: Network, layer: str, **changes) -> rotation_sites.Site:
    (found,) = rotation_sites.sites(network, protocol(**changes), [layer])
    return found


def maps_of(kind: str, place: rotation_sites.Site) -> dict[str, np.ndarray]:
    """The drawn maps M (1, ...) of a site in float64."""
    fixed = rotation_sites.matrices(place, Slice(Arm(kind), 0), 5)
    return {path: w[None].astype(float) for path, w in fixed.items()}


def residual(network: Network, kind: str, layer: str, **changes) -> float:
    """The largest difference that folding leaves, over the largest logit; without folding it is not small."""
    place = site(network, layer, **changes)
    arrays = arrays_of(network, seeds=1) | maps_of(kind, place)
    images = generator(1, "images").standard_normal((1, 5, 8, 8, 3))
    untouched = forward(network, arrays, images)[0]
    assert np.abs(forward(place.network, arrays, images)[0] - untouched).max() > 1e-2
    upstream = changes.get("retrain") == "upstream"
    folded = rotation_sites.folded(place.network, arrays, upstream)
    for node in fixed_maps.fixed_maps(place.network):
        np.testing.assert_array_equal(folded[node.paths["w"]], arrays[node.paths["w"]])
    difference = np.abs(forward(place.network, folded, images)[0] - untouched).max()
    return difference / np.abs(untouched).max()


PRE, POST = {"tap": "pre"}, {"tap": "post"}
UP = {"retrain": "upstream"}
EXACT = [
    ("mlp", "relu", "permutation", "hidden1", PRE),
    ("mlp", "relu", "permutation", "hidden2", POST),
    ("mlp", "relu", "permutation", "hidden1", PRE | UP),
    ("mlp", "gelu", "permutation", "hidden1", POST | UP),
    ("mlp", "relu", "relu-symmetry", "hidden1", PRE),
    ("mlp", "tanh", "signed-permutation", "hidden1", PRE),
    ("mlp", "relu", "orthogonal", "hidden1", POST),
    ("mlp", "relu", "orthogonal", "hidden1", PRE | UP),
    ("mlp", "linear", "orthogonal", "hidden1", PRE),
    ("mlp", "linear", "orthogonal", "hidden2", PRE | UP),
    ("mlp", "linear", "orthogonal", "hidden2", POST),
    ("mlp", "linear", "orthogonal", "hidden1", POST | UP),
    ("mlp", "linear", "orthogonal", "hidden2", PRE | {"cumulative": True}),
    ("convnet", "relu", "permutation", "conv1", PRE),
    ("convnet", "relu", "relu-symmetry", "conv1", PRE),
    ("convnet", "relu", "permutation", "conv3", PRE | {"cumulative": True}),
    ("means", "linear", "orthogonal", "conv1", PRE),
    ("means", "relu", "orthogonal", "conv1", POST),
    ("vgg", "relu", "permutation", "conv2", PRE),
    ("vgg", "relu", "permutation", "conv2", PRE | UP),
    ("resnet", "relu", "permutation", "stem", PRE),
    ("resnet", "relu", "permutation", "block4/sum", PRE),
    ("resnet", "relu", "permutation", "block3/conv1", PRE),
    ("resnet", "relu", "relu-symmetry", "block1/sum", PRE),
    ("resnet", "relu", "permutation", "block1/sum", PRE | UP),
    ("plain resnet", "linear", "orthogonal", "block4/sum", PRE),
    ("plain resnet", "linear", "orthogonal", "stem", PRE | UP),
    ("resnet B", "relu", "permutation", "block2/sum", PRE),
    ("wideresnet", "relu", "permutation", "block2/conv1", PRE),
    ("plain wideresnet", "relu", "relu-symmetry", "block1/sum", PRE),
]  # fmt: skip
NOT_EXACT = [
    ("mlp", "relu", "orthogonal", "hidden1", PRE),
    ("mlp", "relu", "orthogonal", "hidden1", POST | UP),
    ("mlp", "gelu", "signed-permutation", "hidden1", PRE),
    ("convnet", "linear", "orthogonal", "conv1", PRE),
    ("resnet", "relu", "orthogonal", "stem", PRE),
]


@pytest.mark.parametrize("name, activation, kind, layer, changes", EXACT)
def test_folding_is_exact_where_m_passes_through(name, activation, kind, layer, changes):
    assert residual(network_of(name, activation=activation), kind, layer, **changes) < 1e-6


@pytest.mark.parametrize("name, activation, kind, layer, changes", NOT_EXACT)
def test_folding_is_not_exact_where_m_does_not(name, activation, kind, layer, changes):
    assert residual(network_of(name, activation=activation), kind, layer, **changes) > 1e-2


def test_a_rotation_cannot_be_folded_through_a_normalisation():
    with pytest.raises(BadInput, match="scales single units"):
        residual(network_of("vgg"), "orthogonal", "conv2", **UP)


def test_what_is_free_is_what_the_protocol_says():
    network = network_of("mlp")
    below, above = 192 * 12 + 12, 12 * 7 + 7 + 7 * 10 + 10
    for tap in ("pre", "post"):
        assert site(network, "hidden1", tap=tap).parameters == above
        assert site(network, "hidden1", tap=tap, retrain="upstream").parameters == below
        assert site(network, "hidden1", tap=tap, retrain="none").parameters == 0
        assert site(network, "hidden2", tap=tap).parameters == 7 * 10 + 10
    assert site(network, "hidden2", cumulative=True).retrained == ["output/w", "output/b"]
    of_resnet = site(network_of("resnet"), "block1/sum")
    assert of_resnet.retrained[:3] == ["block2/conv1/w", "block2/conv1/norm/scale", "block2/conv1/norm/shift"]


def test_where_m_goes():
    def of(name: str, layer: str, **changes) -> dict:
        return site(network_of(name), layer, **changes).network.architecture["rotated"]

    assert of("mlp", "hidden1") == {"hidden1": "pre"}
    assert of("mlp", "hidden1", tap="post") == {"hidden1": "post"}
    assert of("mlp", "hidden2", cumulative=True) == {"hidden1": "pre", "hidden2": "pre"}
    stream = ["stem", "block1/conv2", "block2/conv2", "block3/conv2", "block4/conv2", "block5/conv2", "block6/conv2"]
    assert of("resnet", "block1/sum") == dict.fromkeys(stream, "pre")
    assert of("resnet", "block1/conv1") == {"block1/conv1": "pre"}
    first = ["stem", "block1/conv2"]
    assert of("resnet B", "stem") == of("resnet B", "block1/sum") == dict.fromkeys(first, "pre")
    assert of("wideresnet", "stem") == {"stem": "pre"}
    assert list(of("plain wideresnet", "block2/sum")) == [
        "stem", "block1/conv2", "block2/conv2",
    ]  # fmt: skip


def test_one_basis_has_one_matrix_wherever_its_units_are_made():
    place = site(network_of("resnet"), "block4/sum")
    found = rotation_sites.matrices(place, Slice(Arm("orthogonal"), 0), 0)
    stem = found["stem/rotation/w"]
    assert stem.shape == (4, 4) and found["block4/conv2/rotation/w"].shape == (8, 8)
    for path, w in found.items():
        np.testing.assert_array_equal(w[:4, :4], stem, err_msg=path)
        if len(w) > 4:
            np.testing.assert_array_equal(w[4:8, 4:8], found["block3/conv2/rotation/w"][4:8, 4:8], err_msg=path)
        assert not w[:4, 4:].any() and (w[8:, 8:] == np.eye(max(len(w) - 8, 0))).all()


def test_matrices_depend_on_kind_layer_and_seed_and_powers_share_theirs():
    network = network_of("mlp", hidden=[9, 9])
    place = site(network, "hidden2", cumulative=True)

    def w(kind="orthogonal", power=1.0, seed=0):
        return rotation_sites.matrices(place, Slice(Arm(kind, power), 0), seed)

    one, half = w(), w(power=0.5)
    assert not np.allclose(one["hidden1/rotation/w"], one["hidden2/rotation/w"])
    assert not np.allclose(one["hidden1/rotation/w"], w(seed=1)["hidden1/rotation/w"])
    np.testing.assert_allclose(
        half["hidden1/rotation/w"] @ half["hidden1/rotation/w"], one["hidden1/rotation/w"], atol=1e-5
    )
    assert w("identity")["hidden1/rotation/w"].tolist() == np.eye(9).tolist()


@pytest.mark.parametrize(
    "name, layer, changes, words",
    [
        ("mlp", "output", {}, "`layer` output: output gives the logits and is not rotated; there are hidden1, hidden2"),
        ("mlp", "hidden3", {}, "`layer` hidden3: no such layer"),
        ("resnet", "block1/sum", POST, "lies on a residual stream .*; choose `tap` pre"),
        (
            "wideresnet",
            "block1/sum",
            PRE,
            "block1/sum/norm normalises a residual stream.* rotating them has no meaning",
        ),
    ],
)
def test_what_cannot_be_rotated_is_refused(name, layer, changes, words):
    with pytest.raises(BadInput, match=words):
        site(network_of(name), layer, **changes)


def test_defaults_follow_the_network():
    def of(name, **changes):
        network = network_of(name, **{"activation": changes.pop("activation", "relu")})
        return rotation_sites.filled(protocol(**changes), network)

    assert of("mlp").kinds == ("orthogonal", "permutation", "relu-symmetry", "identity")
    assert (
        of("mlp", tap="post").kinds == of("mlp", activation="gelu").kinds == ("orthogonal", "permutation", "identity")
    )
    assert of("mlp", kinds=("permutation",)).kinds == ("permutation", "identity")
    assert [of(name).start for name in ("mlp", "convnet")] == ["reinit", "continue"]
    assert of("mlp", retrain="none").start == "continue" and of("mlp", retrain="none").name == "pre-none"
    assert of("mlp", cumulative=True).name == "pre-downstream-reinit-cumulative"
    with pytest.raises(BadInput, match="scales pass through ReLU, not through tanh; choose permutation"):
        of("mlp", activation="tanh", kinds=("relu-symmetry",))


def test_a_rotated_network_has_bases_before_and_after_m():
    network = site(network_of("mlp"), "hidden1").network
    assert unit_groups(network).groups == {"hidden1": 12, "hidden2": 7}
