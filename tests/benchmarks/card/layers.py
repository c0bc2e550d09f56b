"""A table of the layers of a task at its number of seeds, that adds up to the step."""

from collections.abc import Callable
from math import prod

import numpy as np

from basiscli import kernels
from basiscli.device import placement
from basiscli.nn import weights
from basiscli.training import optim
from tests.benchmarks.card.ours import reporting
from tests.benchmarks.card.tasks import CLASSES, GIGA, TERA, Task


def layers(say: Callable[..., None], tasks: tuple[Task, ...], precision: str, repeats: int) -> None:
    """Say of each different layer of each task how long it takes forward and backward, and how often it comes."""
    for task in tasks:
        network = task.network
        shapes = {node.name: node.shape for node in network.nodes} | {"input": task.shape}
        first = next(node.name for node in network.fused if "w" in node.weights)
        alike: dict[tuple, list] = {}
        for node in network.fused:
            inputs = tuple(tuple(shapes[name]) for name in node.inputs)
            name = node.op.__name__.rpartition(".")[2]
            alike.setdefault((name, inputs, str(node.options), node.name == first), []).append(node)
        for (name, inputs, options, lowest), nodes in alike.items():
            what = {"task": task.name, "layer": name, "inputs": [list(shape) for shape in inputs], "uses": len(nodes)}
            with reporting(say, **what), placement.using("cuda", precision):
                say(**what, options=options, **measured(task, nodes[0], inputs, not lowest, repeats))
        with reporting(say, task=task.name, layer="rest"), placement.using("cuda", precision):
            say(task=task.name, layer="rest", uses=1, **rest(task, repeats))


def measured(task: Task, node, inputs: tuple, need_dx: bool, repeats: int) -> dict:
    """Return the milliseconds of a node forward, and backward without and with the gradient of its input."""
    xs = [_random(task.seeds, task.batch, *shape) for shape in inputs]
    arrays = {
        name: np.abs(_random(task.seeds, *weight.shape)) + np.float32(0.1) for name, weight in node.weights.items()
    }
    gradients = {name: np.zeros_like(arrays[name]) for name, weight in node.weights.items() if weight.trained}
    y, cache = node.op.forward(arrays, *xs, train=True, **node.options)
    dy = _random(*y.shape)
    forward = milliseconds(lambda: node.op.forward(arrays, *xs, train=True, **node.options), repeats)
    own = milliseconds(lambda: node.op.backward(dy, cache, False, gradients), repeats) if gradients else 0.0
    backward = milliseconds(lambda: node.op.backward(dy, cache, True, gradients), repeats) if need_dx else own
    moved = 4 * (sum(prod(x.shape) for x in xs) + prod(y.shape))
    found = {"forward_ms": forward, "weights_ms": own, "backward_ms": backward, "forward_gb_s": moved / forward / 1e6}
    if "w" in node.weights:
        operations = 2 * task.seeds * task.batch * prod(node.shape[:-1]) * prod(node.weights["w"].shape)
        found |= {"forward_tflop_s": operations / forward * 1e3 / TERA}
        if own:
            found |= {"weights_tflop_s": operations / own * 1e3 / TERA}
    return found


def rest(task: Task, repeats: int) -> dict:
    """Return the milliseconds of what a step does beside its layers: gathering, the loss, the optimiser."""
    network, rng = task.network, np.random.default_rng(0)
    layout = weights.layout(network)
    theta, gradient, velocity = (_random(task.seeds, layout.size) for _ in range(3))
    kernel, factor = kernels.of(theta), placement.to_device(np.ones(task.seeds))
    index = placement.to_device(rng.integers(0, 1000, (task.seeds, task.batch)).astype(np.int32))
    moves = placement.to_device(np.zeros((task.seeds, task.batch, 2), np.int32))
    images = placement.to_device(rng.integers(0, 256, (1000, *task.shape), np.uint8))
    channels = placement.to_device(np.ones(task.shape[2], np.float32))
    logits = _random(task.seeds, task.batch, CLASSES)
    labels = index % CLASSES
    rate = placement.to_device(np.array(0.1))

    def step() -> None:
        optim.step("sgd", theta, gradient, {"velocity": velocity}, layout, factor, rate, 1, momentum=0.9,
                   nesterov=False, weight_decay=1e-4)  # fmt: skip

    return {
        "gather_ms": milliseconds(lambda: kernel.gather(images, index, moves, channels, channels, 0), repeats),
        "loss_ms": milliseconds(lambda: kernel.cross_entropy(logits, labels), repeats),
        "optimiser_ms": milliseconds(step, repeats),
        "optimiser_gb": 20 * layout.size * task.seeds / GIGA,
    }


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the milliseconds of a call among some, by events, after one that compiles."""
    import cupy

    call()
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return cupy.cuda.get_elapsed_time(start, end) / repeats


def _random(*shape: int):
    """Return random numbers on the card; those of a large array repeat."""
    count = prod(shape)
    drawn = np.random.default_rng(0).standard_normal(min(count, 1 << 20), np.float32)
    return (
        np.repeat(placement.to_device(drawn)[None], -(-count // len(drawn)), axis=0).reshape(-1)[:count].reshape(shape)
    )
