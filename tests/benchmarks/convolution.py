"""Time convolutions and whole training steps beside PyTorch on the same threads, batch 128.

    python tests/benchmarks/convolution.py [--threads 2] [--rounds 3] [--only ops steps seeds] [--write]

It needs PyTorch. Each side runs in a process of its own; they take turns, and every figure is the best of the rounds,
PyTorch's also that of its layouts, contiguous and channels_last. A step is forward, backward and SGD with momentum on
images that lie ready; PyTorch's has parameters in its own layout and ReLUs in place. im2col is PyTorch without oneDNN:
columns and a product by BLAS. Of `seeds`, we train as many networks at once as there are threads, and PyTorch one in
each of as many processes. With one thread the time is that of the processor, which a busy machine hardly changes; with
more it is the clock's. --write puts the tables into docs/benchmarks.md.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import page

BATCH = 128
# Height, inputs, outputs, kernel, stride.
OPS = [
    (32, 16, 16, 3, 1), (16, 32, 32, 3, 1), (8, 64, 64, 3, 1), (32, 64, 64, 3, 1), (8, 256, 256, 3, 1),
    (4, 512, 512, 3, 1), (2, 512, 512, 3, 1), (32, 16, 32, 3, 2), (32, 64, 128, 3, 2), (32, 64, 64, 1, 1),
    (32, 64, 128, 1, 2), (32, 3, 16, 3, 1), (32, 4, 4, 3, 1),
]  # fmt: skip
PASSES = ("forward", "input gradient", "weight gradient")
MODELS = {
    "ResNet-20, width 1": {"model": "resnet"},
    "ResNet-20, width 1/4": {"model": "resnet", "width": 0.25},
    "ResNet-20, width 4": {"model": "resnet", "width": 4},
    "WRN-16-4": {"model": "wideresnet"},
    "VGG-11": {"model": "vgg"},
}
IMAGES = {"input_shape": (32, 32, 3), "classes": 10}
EVALUATED = "ResNet-20, width 1"
# Environment that keeps glibc from giving memory back at every step: PyTorch's steps gain where arrays are large.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
LAYOUTS = ("contiguous", "channels_last")


@dataclass(frozen=True)
class Side:
    """A column of a table: the functions that give its times, the best of which counts, and the environment."""

    name: str
    functions: tuple[str, ...]
    environment: dict = field(default_factory=dict)
    processes: int = 1


def sides(table: str, threads: int) -> list[Side]:
    """Return the columns of a table; ours is the last."""
    peers = tuple(f"pytorch_{'ops' if table == 'ops' else 'steps'}:{layout}" for layout in LAYOUTS)
    if table == "ops":
        return [Side("PyTorch", peers), Side("im2col", ("pytorch_ops:im2col",)), Side("basiscli", ("our_ops:1",))]
    if table == "seeds":
        return [
            Side(f"PyTorch, {threads} processes", peers, TUNED, threads),
            Side(f"basiscli, {threads} seeds", (f"our_steps:{threads}",)),
        ]
    return [
        Side("PyTorch", peers),
        Side("PyTorch, malloc tuned", peers, TUNED),
        Side("basiscli", ("our_steps:1",)),
    ]


def best(function: Callable, threads: int, seconds: float) -> float:
    """Return the shortest time of a call, of at least three."""
    clock = time.process_time if threads == 1 else time.perf_counter
    times, end = [], time.perf_counter() + seconds
    function()
    while len(times) < 3 or time.perf_counter() < end:
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


def our_ops(threads: int, seeds: str) -> dict[str, float]:
    """Return seconds by convolution and pass."""
    from basiscli.kernels import cpu

    times = {}
    for height, inputs, outputs, kernel, stride in OPS:
        padding = kernel // 2
        x, w = normal(1, BATCH, height, height, inputs), normal(1, kernel, kernel, inputs, outputs)
        dy = cpu.convolution(x, w, stride, padding)
        calls = (
            partial(cpu.convolution, x, w, stride, padding),
            partial(cpu.convolution_input_gradient, dy, w, stride, padding, (height, height)),
            partial(cpu.convolution_weight_gradient, x, dy, stride, padding, (kernel, kernel)),
        )
        for part, call in zip(PASSES, calls, strict=True):
            times[f"{label(height, inputs, outputs, kernel, stride)} {part}"] = best(call, threads, 0.3)
    return times


def our_steps(threads: int, seeds: str) -> dict[str, float]:
    """Return seconds by model."""
    times = {}
    for name, architecture in MODELS.items():
        train, evaluate = our_step(architecture, int(seeds))
        times[f"{name} training"] = best(train, threads, 3)
        if name == EVALUATED:
            times[f"{name} evaluation"] = best(evaluate, threads, 2)
    return times


def our_step(architecture: dict, seeds: int) -> tuple[Callable, Callable]:
    """Return a step of training and one of evaluation, of several seeds at once."""
    from basiscli.nn import graph, models, weights
    from basiscli.nn.ops import cross_entropy
    from basiscli.training import optim

    network = models.build(architecture | IMAGES)
    layout = weights.layout(network, weights.select(network.trained, ()))
    theta = np.zeros((seeds, layout.size), np.float32)
    gradient, arrays, slots = np.zeros_like(theta), layout.views(theta), optim.slots("sgd", theta)
    for path, values in weights.initial(network, 0).items():
        arrays.setdefault(path, np.zeros((seeds, *values.shape), np.float32))[:] = values
    views = layout.views(gradient)
    dweights = {path: views[path] for path in layout.trained_paths()}
    x, labels = normal(seeds, BATCH, 32, 32, 3), np.zeros((seeds, BATCH), np.int64)

    def train():
        logits, _, caches = graph.forward(network, arrays, x, train=True)
        _, _, cache = cross_entropy.forward(logits, labels, 0.0)
        graph.backward(network, caches, cross_entropy.backward(cache), dweights)
        optim.step("sgd", theta, gradient, slots, layout, np.ones(seeds), 0.01, 1,
                   momentum=0.9, nesterov=False, weight_decay=1e-4)  # fmt: skip

    return train, partial(graph.forward, network, arrays, x)


def pytorch_ops(threads: int, layout: str) -> dict[str, float]:
    """Return seconds by convolution and pass."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.mkldnn.set_flags(layout != "im2col")
    times = {}
    for height, inputs, outputs, kernel, stride in OPS:
        padding = kernel // 2
        x, w = (
            pytorch_image(shape, layout)
            for shape in ((BATCH, inputs, height, height), (outputs, inputs, kernel, kernel))
        )
        dy = torch.nn.functional.conv2d(x, w, None, stride, padding)
        geometry = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        calls = (
            partial(torch.nn.functional.conv2d, x, w, None, stride, padding),
            partial(torch.ops.aten.convolution_backward, dy, x, w, *geometry, [True, False, False]),
            partial(torch.ops.aten.convolution_backward, dy, x, w, *geometry, [False, True, False]),
        )
        for part, call in zip(PASSES, calls, strict=True):
            times[f"{label(height, inputs, outputs, kernel, stride)} {part}"] = best(call, threads, 0.3)
    return times


def pytorch_steps(threads: int, layout: str) -> dict[str, float]:
    """Return seconds by model."""
    import torch

    torch.set_num_threads(threads)
    times = {}
    for name, architecture in MODELS.items():
        train, evaluate = pytorch_step(torch, architecture, layout)
        times[f"{name} training"] = best(train, threads, 3)
        if name == EVALUATED:
            times[f"{name} evaluation"] = best(evaluate, threads, 2)
    return times


def pytorch_step(torch, architecture: dict, layout: str) -> tuple[Callable, Callable]:
    """Return a step of training and one of evaluation: the walk of tests/pytorch.py, weights laid out for PyTorch."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from basiscli.nn import models, weights
    from tests.helpers import pytorch as peer

    network = models.build(architecture | IMAGES)
    p = {path: torch.tensor(values, dtype=torch.float32) for path, values in weights.initial(network, 0).items()}
    for path, weight in network.weights.items():
        if p[path].ndim == 4:
            p[path] = p[path].permute(3, 2, 0, 1).contiguous(memory_format=memory_format(layout))
        p[path].requires_grad_(weight.trained)
    hyper = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "foreach": True}
    optimizer = torch.optim.SGD([p[path] for path in network.trained], **hyper)
    x, labels = pytorch_image((BATCH, 3, 32, 32), layout).permute(0, 2, 3, 1), torch.zeros(BATCH, dtype=torch.int64)

    def logits(training):
        peer.OPS["pointwise"] = lambda f, p, options, x: torch.relu_(x)
        peer.OPS["convolution"] = lambda f, p, options, x: f.conv2d(
            x, p["w"], None, options["stride"], options["padding"]
        )
        return peer.logits_of(torch, network, p, x, training)

    def train():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(True), labels).backward()
        optimizer.step()

    return train, torch.no_grad()(partial(logits, False))


def pytorch_image(shape: tuple[int, ...], layout: str):
    """Return random values (N, C, H, W)."""
    import torch

    return torch.randn(*shape).to(memory_format=memory_format(layout))


def memory_format(layout: str):
    """Return PyTorch's name of a layout; im2col takes contiguous arrays."""
    import torch

    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def normal(*shape: int) -> np.ndarray:
    """Return random values."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def label(height: int, inputs: int, outputs: int, kernel: int, stride: int) -> str:
    """Return the name of a convolution."""
    return f"{height}², {inputs} to {outputs}, {kernel} x {kernel}, stride {stride},"


def measure(side: Side, threads: int) -> dict[str, float]:
    """Return the shortest seconds by task of a side's functions, of all processes if there are several."""
    shortest: dict[str, float] = {}
    own = threads // side.processes
    environment = os.environ | side.environment | {"NUMBA_NUM_THREADS": str(own)}
    for function in side.functions:
        command = [sys.executable, __file__, "--side", function, "--threads", str(own)]
        running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(side.processes)]
        for task, seconds in [item for one in running for item in json.loads(one.communicate()[0]).items()]:
            shortest[task] = min(seconds, shortest.get(task, seconds))
    return shortest


def table_of(table: str, threads: int, rounds: int) -> list[str]:
    """Return the lines of a table: milliseconds a call of each side, and how much faster ours is."""
    columns = sides(table, threads)
    shortest: list[dict[str, float]] = [{} for _ in columns]
    for _ in range(rounds):
        for times, side in zip(shortest, columns, strict=True):
            for task, seconds in measure(side, threads).items():
                times[task] = min(seconds, times.get(task, seconds))
    peers = columns[:-1]
    heads = [f"milliseconds, {threads} threads", *(side.name for side in columns)]
    heads += [f"{side.name} / basiscli" for side in peers]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for task, mine in shortest[-1].items():
        theirs = [times[task] for times in shortest[:-1]]
        cells = [f"{seconds * 1e3:.2f}" for seconds in (*theirs, mine)] + [f"**{peer / mine:.2f}**" for peer in theirs]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["ops", "steps", "seeds"], nargs="*", default=["ops", "steps", "seeds"])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        function, _, argument = options.side.partition(":")
        print(json.dumps(globals()[function](options.threads, argument)))
        return
    for table in options.only:
        lines = table_of(table, options.threads, options.rounds)
        print("\n".join(lines), flush=True)
        if options.write:
            page.write(f"convolution: {table}", lines)


if __name__ == "__main__":
    main()
