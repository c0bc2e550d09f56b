"""What is trained on a card: the tasks, and the operations and bytes of their steps, with the floors that follow."""

from dataclasses import dataclass, field
from math import prod

from basiscli.nn import cost, models
from basiscli.nn.graph import Network

BATCH, CLASSES = 128, 10
PRECISIONS = ("float32", "tf32", "bf16")
GIGA, TERA = 1e9, 1e12


@dataclass(frozen=True)
class Task:
    """Networks to train: their description, how many at once, and how many times as fast as PyTorch is wanted."""

    name: str
    architecture: dict
    seeds: int
    wanted: float
    shape: tuple[int, int, int] = (32, 32, 3)
    batch: int = BATCH

    @property
    def network(self) -> Network:
        """The network."""
        return models.build(self.architecture | {"input_shape": self.shape, "classes": CLASSES})


TASKS = (
    Task("MLP 784-512x3-10, 16 seeds", {"model": "mlp", "hidden": [512] * 3}, 16, 10, (28, 28, 1)),
    Task("ResNet-20 width 1, 16 seeds", {"model": "resnet"}, 16, 6),
    Task("ResNet-20 width 4, 4 seeds", {"model": "resnet", "width": 4}, 4, 2),
    Task("WRN-16-8, one seed", {"model": "wideresnet", "depth": 16, "width": 8}, 1, 0.8),
)


# The same kinds of layers, so small that the emulation of the tests trains them in seconds.
REHEARSED = (
    Task("an MLP", {"model": "mlp", "hidden": [9]}, 2, 1, (5, 5, 1), 4),
    Task("a ResNet", {"model": "resnet", "depth": 8, "width": 1 / 8}, 2, 1, (8, 8, 3), 4),
)


@dataclass(frozen=True)
class Card:
    """What its maker says a card does at best: 10¹² operations a second by precision, and 10⁹ bytes a second."""

    name: str
    operations: dict[str, float] = field(default_factory=dict)
    bytes: float = 0


H100 = Card("H100 SXM5", {"float32": 67, "tf32": 494, "bf16": 989}, 3350)

# Activations of a node that a step reads and writes, in units of its output, where inputs are as large as outputs: one
# pass for each kernel that touches them (basiscli/ops, kernels/gpu.py).
PASSES = {
    "pointwise": 2 + 3, "batchnorm": 1 + 2 + 2 + 3, "batchnorm_relu": 1 + 2 + 2 + 3, "layernorm": 2 + 4 + 2, "add": 3,
    "dropout": 2 + 2, "cross_entropy": 2,
}  # fmt: skip
# Parameters: gradient written and read, θ and velocity read and written, weights read forward and backward.
PARAMETER_PASSES = 2 + 4 + 2


def floors(card: Card = H100) -> list[str]:
    """Return a table of operations and bytes of a step, and the time that a card takes for them at the least."""
    lines = [
        f"| {card.name} | 10⁹ operations | 10⁹ bytes | float32, ms | TF32, ms | BF16, ms | bound by |",
        "| --- " * 7 + "|",
    ]
    for task in TASKS:
        operations, moved = task.seeds * operations_of(task.network), task.seeds * bytes_of(task.network)
        memory = 1e3 * moved / (card.bytes * GIGA)
        products = {name: 1e3 * operations / (rate * TERA) for name, rate in card.operations.items()}
        bound = ", ".join(f"{name}: {'memory' if memory > at else 'products'}" for name, at in products.items())
        times = " | ".join(f"{max(memory, at):.2f}" for at in products.values())
        lines.append(f"| {task.name} | {operations / GIGA:.1f} | {moved / GIGA:.2f} | {times} | {bound} |")
    return lines


def operations_of(network: Network, batch: int = BATCH) -> float:
    """Return multiplications and additions of a step of one network: three products for each map, two for the first."""
    first = next(node for node in network.nodes if "w" in node.weights)
    of_first = prod(first.shape[:-1]) * prod(first.weights["w"].shape)
    return 2 * batch * (3 * cost.multiply_adds(network) - of_first)


def bytes_of(network: Network, batch: int = BATCH) -> float:
    """Return the bytes that the kernels of a step of one network read and write, each array once a kernel."""
    shapes = {node.name: node.shape for node in network.nodes} | {"input": network.architecture["input_shape"]}
    nodes, moved = network.fused, 0.0
    for node in nodes:
        inputs, output = sum(prod(shapes[name]) for name in node.inputs), prod(node.shape)
        name = node.op.__name__.rpartition(".")[2]
        if "w" in node.weights:  # forward, input gradient, weight gradient: two matrices of activations each
            moved += 3 * (inputs + output) + (3 * output if "b" in node.weights else 0)
            moved += PASSES["pointwise"] * output if node.options.get("rectify") else 0  # on a GPU passes of their own
        elif name in PASSES:
            # With a skip also that, the masked gradient, and the sum of the gradients of what is read twice.
            moved += PASSES[name] * output + (7 * output if name == "batchnorm_relu" and len(node.inputs) > 1 else 0)
        elif name != "flatten":
            moved += 2 * (inputs + output)
    return cost.FLOAT_BYTES * (batch * moved + PARAMETER_PASSES * cost.parameters(network))
