"""The architectures: known sizes, shapes, gradients of whole models, one step beside PyTorch, what is refused."""

from math import prod

import numpy as np
import pytest

from basiscli import data
from basiscli.errors import BadInput
from basiscli.nn import cost, models
from basiscli.nn.graph import Network, forward
from basiscli.rng import generator
from basiscli.training import defaults
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run
from tests.helpers.gradients import check_gradient
from tests.helpers.networks import arrays_of, copied, loss_and_gradient
from tests.helpers.pytorch import logits_of

S, N = 2, 3
CIFAR = {"input_shape": (32, 32, 3), "classes": 10}
# A stack of images, with most ops, and one of vectors.
PARTS = [
    {"op": "batchnorm"},
    {"op": "convolution", "units": 4, "kernel": 3, "stride": 1, "padding": 2, "bias": False},
    {"op": "batchnorm"},
    {"op": "activation"},
    {"op": "max_pool", "size": 3, "stride": 2, "padding": 1},
    {"op": "convolution", "units": 6, "kernel": 2, "stride": 1, "padding": 0, "bias": True},
    {"op": "activation"},
    {"op": "batchnorm"},
    {"op": "flatten"},
    {"op": "batchnorm"},
    {"op": "dense", "units": 7},
    {"op": "activation"},
    {"op": "dense", "units": 5},
]
VECTORS = [
    {"op": "flatten"},
    {"op": "dense", "units": 6},
    {"op": "layernorm"},
    {"op": "activation"},
    {"op": "dense", "units": 5},
]
# Small models that between them have every op: name, description.
SMALL = {
    "convnet": {"model": "convnet", "layout": [4, "pool", 6], "activation": "tanh"},
    "convnet of means": {"model": "convnet", "layout": [4, "pool", 6], "pooling": "average", "norm": "layer"},
    "vgg": {"model": "vgg", "layout": [4, 4, "pool", 6, "pool"], "activation": "gelu"},
    "resnet A": {"model": "resnet", "depth": 8, "width": 0.25},
    "resnet B": {"model": "resnet", "depth": 8, "width": 0.25, "shortcut": "B", "activation": "gelu"},
    "resnet layer": {"model": "resnet", "depth": 8, "width": 0.25, "norm": "layer"},
    "resnet none": {"model": "resnet", "depth": 14, "width": 0.125, "norm": "none", "activation": "tanh"},
    "resnet 18": {
        "model": "resnet",
        "stage_blocks": [2, 1],
        "stage_widths": [4, 6],
        "shortcut": "B",
        "stem": "imagenet",
    },
    "resnet 50": {
        "model": "resnet",
        "stage_blocks": [2, 1],
        "stage_widths": [2, 3],
        "shortcut": "B",
        "block": "bottleneck",
    },
    "wideresnet": {"model": "wideresnet", "depth": 10, "width": 0.5},
    "wideresnet of sums": {"model": "wideresnet", "depth": 10, "width": 0.5, "bias": True, "shortcut_of": "sums"},
    "sequential": {"model": "sequential", "parts": PARTS},
    "sequential of vectors": {"model": "sequential", "parts": VECTORS, "activation": "tanh"},
    "wideresnet of one width": {"model": "wideresnet", "depth": 10, "width": 1, "dropout": 0.3},
}


def small(name: str, input_shape=(8, 4, 3)) -> Network:
    return models.build({"input_shape": list(input_shape), "classes": 5} | SMALL[name])


def a_batch(network, dtype=np.float64):
    rng = generator(0, "batch")
    x = rng.standard_normal((S, N, *network.architecture["input_shape"])).astype(dtype)
    return x, rng.integers(0, 5, (S, N))


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_of_a_whole_model(name):
    network = small(name)
    arrays, (x, labels) = arrays_of(network), a_batch(network)
    state = {path: values for path, values in arrays.items() if path not in network.trained}
    _, gradient = loss_and_gradient(network, copied(arrays), x, labels, smoothing=0.1)
    check_gradient(
        lambda at: float(loss_and_gradient(network, copied(state) | at, x, labels, smoothing=0.1)[0].sum()),
        {path: arrays[path] for path in network.trained},
        gradient,
    )


@pytest.mark.parametrize("name", SMALL)
def test_compiled_kernels_give_the_gradient_of_the_reference(name):
    network = small(name)
    arrays, (x, labels) = arrays_of(network, dtype=np.float32), a_batch(network, np.float32)
    exact = {path: values.astype(np.float64) for path, values in arrays.items()}
    loss, gradient = loss_and_gradient(network, arrays, x, labels, smoothing=0.1)
    exact_loss, exact_gradient = loss_and_gradient(network, exact, x.astype(np.float64), labels, smoothing=0.1)
    np.testing.assert_allclose(loss, exact_loss, rtol=1e-5)
    for path, values in exact_gradient.items():
        # The gradient of a BatchNorm below another one is 0 but for rounding.
        error = np.linalg.norm(gradient[path] - values) / max(np.linalg.norm(values), 3e-2)
        assert error < 1e-3, path


@pytest.mark.parametrize("name", SMALL)
def test_every_node_says_its_shape_and_every_layer_its_units(name):
    network = small(name, (8, 8, 1))
    arrays, (x, _) = arrays_of(network), a_batch(network)
    _, kept, _ = forward(network, arrays, x, keep=[node.name for node in network.nodes])
    for node in network.nodes:
        assert kept[node.name].shape == (S, N, *node.shape), node.name
    for layer in network.layers.values():
        assert kept[layer.pre].shape[-1] == kept[layer.post].shape[-1] == layer.units


@pytest.mark.parametrize("name", SMALL)
def test_a_description_gives_the_network_again(name):
    network = small(name)
    again = models.build(network.architecture)
    assert again.architecture == network.architecture
    assert [(node.name, node.inputs, node.shape) for node in again.nodes] == [
        (node.name, node.inputs, node.shape) for node in network.nodes
    ]


STAGES = {"stage_widths": (64, 128, 256, 512), "shortcut": "B"}


@pytest.mark.parametrize(
    "blocks, block, parameters",
    [
        ((2, 2, 2, 2), "basic", 11_689_512),
        ((3, 4, 6, 3), "basic", 21_797_672),
        ((3, 4, 6, 3), "bottleneck", 25_557_032),
        ((3, 4, 23, 3), "bottleneck", 44_549_160),
    ],
)
def test_known_sizes_for_imagenet(blocks, block, parameters):
    """Published numbers of parameters of ResNet-18, 34, 50 and 101; the last image is of 7 x 7."""
    network = models.resnet((224, 224, 3), 1000, stage_blocks=blocks, block=block, stem="imagenet", **STAGES)
    assert cost.parameters(network) == parameters
    assert next(node for node in network.nodes if node.name == "stem/pool").shape == (56, 56, 64)
    assert network.nodes[-3].shape[:2] == (7, 7)


# Published numbers of parameters, without the biases that BatchNorm makes superfluous.
@pytest.mark.parametrize(
    "model, choices, parameters, layers",
    [
        ("resnet", {"depth": 20}, 269_722, 19),
        ("resnet", {"depth": 56}, 853_018, 55),
        ("resnet", {"depth": 20, "width": 4}, 4_286_026, 19),
        ("resnet", STAGES | {"stage_blocks": (2, 2, 2, 2)}, 11_173_962, 17),
        ("resnet", STAGES | {"stage_blocks": (3, 4, 6, 3), "block": "bottleneck"}, 23_520_842, 49),
        ("wideresnet", {"depth": 28, "width": 10}, 36_479_194, 25),
        ("wideresnet", {"depth": 16, "width": 4}, 2_748_890, 13),
        ("vgg", {"depth": 16}, 14_724_042, 13),
        ("vgg", {"depth": 11}, 9_228_362, 8),
    ],
)
def test_known_sizes(model, choices, parameters, layers):
    network = models.build(defaults.description(model, (32, 32, 3), 10, choices))
    assert cost.parameters(network) == parameters
    assert len(network.layers) == layers


def test_known_multiply_adds():
    assert cost.multiply_adds(models.resnet(**CIFAR)) == pytest.approx(40.6e6, rel=0.01)
    assert cost.multiply_adds(models.mlp((28, 28, 1), 10, [512])) == 784 * 512 + 512 * 10


def test_names_of_weights_and_layers():
    network = models.resnet(**CIFAR, depth=8, shortcut="B")
    assert {"stem/w", "stem/norm/scale", "block1/conv1/w", "block2/shortcut/w", "output/w"} <= set(network.weights)
    assert list(network.layers)[:4] == ["stem", "block1/conv1", "block1/sum", "block2/conv1"]
    assert network.tap("block1/sum", "pre") == "block1/sum" and network.tap("block1/sum", "post") == "block1/sum/relu"
    wide = models.wideresnet(**CIFAR, depth=10, width=1)
    assert list(wide.layers) == [
        "stem", "block1/conv1", "block1/sum", "block2/conv1", "block2/sum", "block3/conv1", "block3/sum",
    ]  # fmt: skip
    assert wide.tap("block1/sum", "pre") == "block1/sum/norm"


def test_a_bias_only_where_no_normalisation_follows():
    assert "conv1/b" in models.convnet(**CIFAR).weights
    assert "conv1/b" not in models.vgg(**CIFAR).weights


@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (7, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("model", ["resnet", "wideresnet"])
def test_residual_networks_take_images_of_any_size(model, size):
    network = models.build({"model": model, "input_shape": list(size), "classes": 3, "width": 0.25})
    assert network.nodes[-1].shape == (3,)


def test_activations_keep_their_scale_without_normalisation():
    network = models.resnet((16, 16, 3), 10, depth=32, width=0.5, norm="none")
    x = generator(0, "x").standard_normal((1, 8, 16, 16, 3))
    arrays = {path: values[:1] for path, values in arrays_of_start(network).items()}
    _, kept, _ = forward(network, arrays, x, keep=["stem", "block15/sum"])
    assert 0.3 < kept["block15/sum"].std() / kept["stem"].std() < 3


def arrays_of_start(network):
    rng = generator(0, "start")
    return {path: weight.draw(rng, weight.shape)[None] for path, weight in network.weights.items()}


def test_a_layout_that_halves_an_odd_image_is_refused():
    with pytest.raises(BadInput, match=r"pool3 cannot halve 7x7 \(images of 28x28\)"):
        models.vgg((28, 28, 1), 10)


@pytest.mark.parametrize("width", [0, 0.3, -1, float("nan"), float("inf"), 1 / 32])
def test_a_width_that_makes_no_whole_channels_is_refused(width):
    with pytest.raises(BadInput, match="whole channels"):
        models.resnet(**CIFAR, width=width)


@pytest.mark.parametrize("model, depth", [("resnet", 21), ("resnet", 2), ("wideresnet", 20), ("resnet", 6000002)])
def test_a_depth_that_no_such_network_has_is_refused(model, depth):
    with pytest.raises(BadInput, match=r"6n \+"):
        models.build({"model": model, "depth": depth} | CIFAR)


@pytest.mark.parametrize(
    "change",
    [
        {"layout": ["pool"]}, {"layout": [64, "pull"]}, {"layout": 64}, {"layout": [[64]]}, {"pooling": "median"},
        {"width": "1"}, {"width": None}, {"input_shape": [32, 32]}, {"input_shape": [32, 0, 3]}, {"norm": "group"},
        {"activation": None}, {"depth": 8}, {"input_shape": "abc"},
        {"model": "resnet", "stage_blocks": [2, 2], "stage_widths": [4]}, {"model": "resnet", "stage_widths": [4, 8]},
        {"model": "resnet", "stage_blocks": [0, 1, 1]}, {"model": "resnet", "block": "wide"},
        {"model": "resnet", "stem": "none"}, {"model": "resnet", "stage_blocks": [9999, 1, 1]},
        {"model": "resnet", "stage_blocks": [1, 1], "stage_widths": [8, 4]},
    ],
)  # fmt: skip
def test_a_damaged_description_is_refused(change):
    with pytest.raises(BadInput):
        models.build(models.convnet(**CIFAR).architecture | change)


@pytest.mark.parametrize("name", [name for name in SMALL if "dropout" not in SMALL[name]])
def test_one_step_agrees_with_pytorch(name):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    network = small(name, (8, 8, 3))
    digits = data.from_arrays(
        "noise", {f"{split}/{key}": value for split in ("train", "test") for key, value in noise().items()}
    )
    recipe = Recipe(weight_decay=0.01, nesterov=True, label_smoothing=0.1, lr=0.1, batch_size=32, schedule="constant")
    run = Run.start(network, recipe, digits, [0, 1])
    chosen, moves, labels = (values[:, 0] for values in next(run._batches())[:3])
    images = run._images(chosen, moves)
    before = {path: values.copy() for path, values in run.arrays.items()}
    run.train_epoch(stop=lambda: True)
    for s in range(2):
        exact, single = (
            peer_step(torch, network, before, s, images, labels, recipe, t) for t in ("float64", "float32")
        )
        assert run.totals.loss[s] / 32 == pytest.approx(exact["loss"], rel=1e-6)
        for path in network.weights:
            step = np.linalg.norm(exact[path] - before[path][s])
            ours, theirs = (np.linalg.norm(values - exact[path]) for values in (run.arrays[path][s], single[path]))
            assert ours <= 3 * theirs + 1e-5 * step + 1e-7 * np.sqrt(prod(exact[path].shape)), path


def noise() -> dict[str, np.ndarray]:
    rng = generator(0, "noise")
    return {"images": rng.integers(0, 256, (32, 8, 8, 3)).astype(np.uint8), "labels": np.arange(32) % 5}


def peer_step(torch, network, arrays, s, images, labels, recipe, precision):
    """Return the loss and the arrays of seed s after PyTorch's step."""
    kind = getattr(torch, precision)
    p = {path: torch.tensor(values[s], dtype=kind) for path, values in arrays.items()}
    for path in network.trained:
        p[path].requires_grad_()
    groups = [
        {
            "params": [p[path] for path in network.trained if network.weights[path].decays == decays],
            "weight_decay": decay,
        }
        for decays, decay in ((True, recipe.weight_decay), (False, 0.0))
    ]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
    logits = logits_of(torch, network, p, torch.tensor(images[s], dtype=kind))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[s]), label_smoothing=recipe.label_smoothing)
    loss.backward()
    optimizer.step()
    return {path: values.detach().numpy() for path, values in p.items()} | {"loss": loss.item()}
