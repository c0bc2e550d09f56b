"""Kernels and training on the GPU of this machine, beside PyTorch on the same card; less than eight minutes.

    python tests/benchmarks/gpu.py [--precision float32 tf32 bf16] [--seconds 4] [--write FILE.md]

It begins with `basiscli doctor`, `basiscli selftest` (in every precision; timed in those named) and the moments of two
arrays, then trains: ours many seeds at once, PyTorch one network, the better of eager and torch.compile, channels_last,
products in the same precision, images ready on the card. The tables of training come last. A part that fails is
reported and the others go on. Without a card it prints the floors (operations and bytes of a step, docs/benchmarks.md)
and ends there.

PyTorch must be one for CUDA: pip install torch; without it there is only our side.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from basiscli.data import Dataset, Split  # noqa: E402
from basiscli.device import doctor, placement, selftest  # noqa: E402
from basiscli.nn import cost, models  # noqa: E402
from basiscli.nn.graph import Network  # noqa: E402
from basiscli.training.recipe import Recipe  # noqa: E402
from basiscli.training.run import Run  # noqa: E402

BATCH, CLASSES, STEPS = 128, 10, 20
PRECISIONS = ("float32", "tf32", "bf16")
GIGA, TERA = 1e9, 1e12
# Seconds after which nothing more is begun, so that what is (torch.compile is the slowest) ends within eight minutes.
BEGAN, LIMIT = time.monotonic(), 360
MOMENTS = (1_000_000, 1024)


@dataclass(frozen=True)
class Task:
    """Networks to train: their description, how many at once, and how many times as fast as PyTorch is wanted."""

    name: str
    architecture: dict
    seeds: int
    wanted: float
    shape: tuple[int, int, int] = (32, 32, 3)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=PRECISIONS, nargs="*", default=["tf32"])
    parser.add_argument("--seconds", type=float, default=4, help="Of each measurement.")
    parser.add_argument("--write", type=Path, help="Also write the tables here.")
    options = parser.parse_args()
    lines = shown([*floors(), ""])
    if why := placement.trouble():
        sys.exit(f"gpu.py: from here on a card is needed, and there is none: {why}. Nothing was measured.")
    lines += shown([*(f"- {record['what']}: {record['found']}" for record in doctor.findings()), ""])
    for precision in PRECISIONS:
        timed = precision in options.precision
        lines += attempted(f"selftest {precision}", lambda: kernels_of(precision, timed))  # noqa: B023
    lines += attempted("moments", lambda: moments(options.seconds))
    for precision in options.precision:
        lines += attempted(f"training {precision}", lambda: trainings(precision, options.seconds))  # noqa: B023
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


def shown(lines: list[str]) -> list[str]:
    """Print lines and return them."""
    print("\n".join(lines), flush=True)
    return lines


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


def operations_of(network: Network) -> float:
    """Return multiplications and additions of a step of one network: three products for each map, two for the first."""
    first = next(node for node in network.nodes if "w" in node.weights)
    of_first = prod(first.shape[:-1]) * prod(first.weights["w"].shape)
    return 2 * BATCH * (3 * cost.multiply_adds(network) - of_first)


def bytes_of(network: Network) -> float:
    """Return the bytes that the kernels of a step of one network read and write, each array once a kernel."""
    shapes = {node.name: node.shape for node in network.nodes} | {"input": network.architecture["input_shape"]}
    nodes, moved = network.fused, 0.0
    for node in nodes:
        inputs, output = sum(prod(shapes[name]) for name in node.inputs), prod(node.shape)
        name = node.op.__name__.rpartition(".")[2]
        if "w" in node.weights:  # forward, input gradient, weight gradient: two matrices of activations each
            moved += 3 * (inputs + output) + (3 * output if "b" in node.weights else 0)
        elif name in PASSES:
            # With a skip also that, the masked gradient, and the sum of the gradients of what is read twice.
            moved += PASSES[name] * output + (7 * output if name == "batchnorm_relu" and len(node.inputs) > 1 else 0)
        elif name != "flatten":
            moved += 2 * (inputs + output)
    return cost.FLOAT_BYTES * (BATCH * moved + PARAMETER_PASSES * cost.parameters(network))


def kernels_of(precision: str, timed: bool) -> list[str]:
    """Return the records of selftest in a precision as a table."""
    with placement.using("cuda", precision):
        found = list(selftest.run(precision, timed))
    heads = ("kernel", "ok", "error", "milliseconds", "gb_s", "of_copy", "gflop_s", "of_product")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for record in found:
        values = (record.get(name) for name in heads)
        lines.append(f"| {' | '.join(f'{v:.3g}' if isinstance(v, float) else str(v or '') for v in values)} |")
    wrong = [record["kernel"] for record in found if not record["ok"]]
    return [f"Kernels, {precision}; wrong: {', '.join(wrong) or 'none'}", "", *lines, ""]


def trainings(precision: str, seconds: float) -> list[str]:
    """Return the table of training in a precision."""
    lines = [f"Training, {precision}, images a second:", ""]
    lines += ["| | basiscli, all seeds | PyTorch | ratio | wanted |", "| --- " * 5 + "|"]
    for task in TASKS:
        ours = rate(f"{task.name}, ours", lambda: ours_of(task, precision, seconds))  # noqa: B023
        peer = rate(f"{task.name}, PyTorch", lambda: pytorch_of(task, precision, seconds))  # noqa: B023
        ratio = f"{ours / peer:.2f}" if ours and peer else ""
        cells = (f"{value:.0f}" if value else "-" for value in (ours, peer))
        lines.append(f"| {task.name} | {' | '.join(cells)} | {ratio or '-'} | {task.wanted} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def ours_of(task: Task, precision: str, seconds: float, steps: int = STEPS) -> float:
    """Return images a second of all seeds together: whole steps as `basiscli train` does them."""
    rng = np.random.default_rng(0)
    count = steps * BATCH
    split = Split(rng.integers(0, 256, (count, *task.shape), np.uint8), rng.integers(0, CLASSES, count))
    dataset = Dataset("random", split, Split(split.images[:1], split.labels[:1]), CLASSES, "")
    with placement.using("cuda", precision):
        recipe = Recipe(epochs=10**6, batch_size=BATCH, schedule="constant", momentum=0.9, weight_decay=1e-4)
        run = Run.start(task.network, recipe, dataset, range(task.seeds))
        run.train_epoch()
        placement.wait()
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() < start + seconds:
            run.train_epoch()  # its evaluation of one image reads the results, and so waits for the steps
            done += steps
        return task.seeds * BATCH * done / (time.perf_counter() - start)


def pytorch_of(task: Task, precision: str, seconds: float, place: str = "cuda") -> float:
    """Return images a second of one network, the better of eager and torch.compile."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    found = []
    for compiled in (False, True):
        found.append(rate(f"compiled {compiled}", lambda: _pytorch(torch, task, precision, seconds, place, compiled)))  # noqa: B023
    return max(filter(None, found))


def _pytorch(torch, task: Task, precision: str, seconds: float, place: str, compiled: bool) -> float:
    model = _module(torch, task).to(place)
    images = torch.randn(BATCH, task.shape[2], *task.shape[:2], device=place)
    if len(task.network.nodes[0].shape) == 3:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (BATCH,), device=place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    show = torch.compile(model, mode="reduce-overhead") if compiled else model
    automatic = torch.autocast(place, torch.bfloat16) if precision == "bf16" else nullcontext()

    def step():
        optimizer.zero_grad()
        with automatic:
            loss = torch.nn.functional.cross_entropy(show(images), labels)
        loss.backward()
        optimizer.step()

    def wait():
        if place == "cuda":
            torch.cuda.synchronize()

    for _ in range(5):
        step()
    wait()
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() < start + seconds:
        for _ in range(STEPS):
            step()
        wait()
        done += STEPS
    return BATCH * done / (time.perf_counter() - start)


def _module(torch, task: Task):
    """Return a network as PyTorch's module: its nodes with PyTorch's layers, walked in their order."""
    nn, network = torch.nn, task.network
    shapes = {node.name: node.shape for node in network.nodes} | {"input": task.shape}

    def layer(node):
        name, before, options = node.op.__name__.rpartition(".")[2], shapes[node.inputs[0]], node.options
        if name == "convolution":
            k = node.weights["w"].shape[0]
            return nn.Conv2d(before[-1], node.shape[-1], k, options["stride"], options["padding"],
                             bias="b" in node.weights)  # fmt: skip
        if name == "dense":
            return nn.Linear(before[-1], node.shape[-1])
        return nn.BatchNorm2d(node.shape[-1]) if name == "batchnorm" else nn.Identity()

    class Walk(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict({node.name.replace("/", "-"): layer(node) for node in network.nodes})

        def forward(self, x):
            values = {"input": x}
            for node in network.nodes:
                inputs = [values[name] for name in node.inputs]
                name = node.op.__name__.rpartition(".")[2]
                if name == "add":
                    y = inputs[0] + inputs[1]
                elif name == "pointwise":
                    y = torch.relu(inputs[0])
                elif name == "global_pool":
                    y = inputs[0].mean(dim=(2, 3))
                elif name == "flatten":
                    y = inputs[0].flatten(1)
                elif name == "subsample":
                    stride, units = node.options["stride"], node.options["units"]
                    y = inputs[0][:, :, ::stride, ::stride]
                    y = nn.functional.pad(y, (0, 0, 0, 0, 0, units - y.shape[1]))
                else:
                    y = self.layers[node.name.replace("/", "-")](inputs[0])
                values[node.name] = y
            return y

    return Walk()


def moments(seconds: float, shape: tuple[int, int] = MOMENTS) -> list[str]:
    """Return the table of the moments of two arrays of (samples, units), beside the card's product in float32."""
    from basiscli.analysis.accumulator import Accumulator

    samples, units = shape
    with placement.using("cuda"):
        ceiling = selftest.multiplied(units)
        few = min(samples, 10_000)
        parts = [
            placement.to_device(np.random.default_rng(k).standard_normal((few, units), np.float32)) for k in range(2)
        ]
        arrays = [np.repeat(part, samples // few, axis=0) for part in parts]
        size = min(samples, 1 << 16)

        def add():
            sums = Accumulator(2, full=True)
            for first in range(0, samples, size):
                sums.add([array[first : first + size] for array in arrays])
            return sums.moments()

        taken = timed(add, seconds)
    done = 2 * samples * 3 * units**2 / taken / GIGA
    return [
        f"Moments of 2 arrays of {shape}: {taken:.3f} s, {done:.0f} GFLOP/s, {done / ceiling:.2f} of a product"
        " of the card in float32 (wanted 0.70)",
        "",
    ]


def timed(call: Callable, seconds: float) -> float:
    """Return the seconds of the shortest of some calls, after one that compiles."""
    call()
    shortest, begun = np.inf, time.perf_counter()
    while shortest == np.inf or time.perf_counter() < begun + seconds:
        placement.wait()
        start = time.perf_counter()
        call()
        placement.wait()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def attempted(name: str, call: Callable[[], list[str]]) -> list[str]:
    """Print and return the lines of a part, or the one that says why there are none."""
    try:
        return shown(call())
    except Exception as error:
        return shown([f"{name} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"])


def rate(name: str, call: Callable[[], float]) -> float | None:
    """Return a rate, None with a line on stderr where it could not be had or no time is left for it."""
    if time.monotonic() > BEGAN + LIMIT:
        print(f"{name}: left out, {LIMIT} s are over", file=sys.stderr, flush=True)
        return None
    try:
        return call()
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
        return None


if __name__ == "__main__":
    main()
