"""Time convolutions and whole training steps beside PyTorch on the same threads, batch 128.

    python tests/benchmarks/convolution.py [--threads 2] [--rounds 3] [--only ops|steps]    # needs PyTorch

Each side runs in a process of its own; they take turns, and every figure is the best of the rounds. A step is forward,
backward and SGD with momentum on images that lie ready; PyTorch's has the layout channels_last, parameters in its own
layout and ReLUs in place. With one thread the time is that of the processor, which a busy machine hardly changes; with
more it is the clock's.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

BATCH = 128
# Height, inputs, outputs, kernel, stride.
OPS = [
    (32, 16, 16, 3, 1), (16, 32, 32, 3, 1), (8, 64, 64, 3, 1), (32, 64, 64, 3, 1), (8, 256, 256, 3, 1),
    (4, 512, 512, 3, 1), (2, 512, 512, 3, 1), (32, 16, 32, 3, 2), (32, 64, 128, 3, 2), (32, 64, 64, 1, 1),
    (32, 64, 128, 1, 2), (32, 3, 16, 3, 1),
]  # fmt: skip
PASSES = ("forward", "input gradient", "weight gradient")
MODELS = {
    "ResNet-20, width 1": {"model": "resnet"},
    "ResNet-20, width 4": {"model": "resnet", "width": 4},
    "WRN-16-4": {"model": "wideresnet"},
    "VGG-11": {"model": "vgg"},
}
IMAGES = {"input_shape": (32, 32, 3), "classes": 10}
EVALUATED = "ResNet-20, width 1"
# Environment that keeps glibc from giving memory back at every step: PyTorch's steps gain where arrays are large.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000", "MALLOC_TOP_PAD_": "268435456"}
SIDES = {"PyTorch": ("pytorch", {}), "PyTorch, malloc tuned": ("pytorch", TUNED), "basiscli": ("our", {})}


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


def our_ops(threads: int) -> dict[str, float]:
    """Return seconds by convolution and pass."""
    import numba

    from basiscli.kernels import cpu

    numba.set_num_threads(threads)
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


def our_steps(threads: int) -> dict[str, float]:
    """Return seconds by model."""
    import numba

    numba.set_num_threads(threads)
    times = {}
    for name, architecture in MODELS.items():
        train, evaluate = our_step(architecture)
        times[f"{name} training"] = best(train, threads, 3)
        if name == EVALUATED:
            times[f"{name} evaluation"] = best(evaluate, threads, 2)
    return times


def our_step(architecture: dict) -> tuple[Callable, Callable]:
    """Return a step of training and one of evaluation."""
    from basiscli import graph, models, optim, weights
    from basiscli.ops import cross_entropy

    network = models.build(architecture | IMAGES)
    layout = weights.layout(network, weights.select(network.trained, ()))
    theta = np.zeros((1, layout.size), np.float32)
    gradient, arrays, slots = np.zeros_like(theta), layout.views(theta), optim.slots("sgd", theta)
    for path, values in weights.initial(network, 0).items():
        arrays.setdefault(path, np.zeros((1, *values.shape), np.float32))[0] = values
    views = layout.views(gradient)
    dweights = {path: views[path] for path in layout.trained_paths()}
    x, labels = normal(1, BATCH, 32, 32, 3), np.zeros((1, BATCH), np.int64)

    def train():
        logits, _, caches = graph.forward(network, arrays, x, train=True)
        _, _, cache = cross_entropy.forward(logits, labels, 0.0)
        graph.backward(network, caches, cross_entropy.backward(cache), dweights)
        optim.step("sgd", theta, gradient, slots, layout, np.ones(1), 0.01, 1,
                   momentum=0.9, nesterov=False, weight_decay=1e-4)  # fmt: skip

    return train, partial(graph.forward, network, arrays, x)


def pytorch_ops(threads: int) -> dict[str, float]:
    """Return seconds by convolution and pass."""
    import torch

    torch.set_num_threads(threads)
    times = {}
    for height, inputs, outputs, kernel, stride in OPS:
        padding = kernel // 2
        x, w = pytorch_image(BATCH, inputs, height, height), pytorch_image(outputs, inputs, kernel, kernel)
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


def pytorch_steps(threads: int) -> dict[str, float]:
    """Return seconds by model."""
    import torch

    torch.set_num_threads(threads)
    times = {}
    for name, architecture in MODELS.items():
        train, evaluate = pytorch_step(torch, architecture)
        times[f"{name} training"] = best(train, threads, 3)
        if name == EVALUATED:
            times[f"{name} evaluation"] = best(evaluate, threads, 2)
    return times


def pytorch_step(torch, architecture: dict) -> tuple[Callable, Callable]:
    """Return a step of training and one of evaluation: the walk of tests/pytorch.py, weights laid out for PyTorch."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from basiscli import models, weights
    from tests import pytorch as peer

    network = models.build(architecture | IMAGES)
    p = {path: torch.tensor(values, dtype=torch.float32) for path, values in weights.initial(network, 0).items()}
    for path, weight in network.weights.items():
        if p[path].ndim == 4:
            p[path] = p[path].permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        p[path].requires_grad_(weight.trained)
    hyper = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "foreach": True}
    optimizer = torch.optim.SGD([p[path] for path in network.trained], **hyper)
    x, labels = pytorch_image(BATCH, 3, 32, 32).permute(0, 2, 3, 1), torch.zeros(BATCH, dtype=torch.int64)

    def logits(training):
        def batchnorm(f, p, options, x):
            statistics = p["mean"], p["variance"], p["scale"], p["shift"]
            return f.batch_norm(x, *statistics, training=training, momentum=0.1, eps=1e-5)

        peer.OPS["batchnorm"] = batchnorm
        peer.OPS["pointwise"] = lambda f, p, options, x: torch.relu_(x)
        peer.OPS["convolution"] = lambda f, p, options, x: f.conv2d(
            x, p["w"], None, options["stride"], options["padding"]
        )
        return peer.logits_of(torch, network, p, x)

    def train():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(True), labels).backward()
        optimizer.step()

    return train, torch.no_grad()(partial(logits, False))


def pytorch_image(*shape):
    """Return random values (N, C, H, W), units last in memory."""
    import torch

    return torch.randn(*shape).to(memory_format=torch.channels_last)


def normal(*shape: int) -> np.ndarray:
    """Return random values."""
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def label(height: int, inputs: int, outputs: int, kernel: int, stride: int) -> str:
    """Return the name of a convolution."""
    return f"{height}², {inputs} to {outputs}, {kernel} x {kernel}, stride {stride},"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["ops", "steps"], nargs="*", default=["ops", "steps"])
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(globals()[options.side](options.threads)))
        return
    shortest: dict[str, dict[str, float]] = {side: {} for side in SIDES}
    for only in options.only:
        for _ in range(options.rounds):
            for side, (name, environment) in SIDES.items():
                command = [sys.executable, __file__, "--side", f"{name}_{only}", "--threads", str(options.threads)]
                done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
                for task, seconds in json.loads(done.stdout).items():
                    shortest[side][task] = min(seconds, shortest[side].get(task, seconds))
    print(f"| milliseconds, {options.threads} threads | {' | '.join(SIDES)} | ratio | ratio to tuned |")
    print("| --- " * (len(SIDES) + 3) + "|")
    for task in shortest["basiscli"]:
        default, tuned, mine = (times[task] for times in shortest.values())
        print(f"| {task} | {default * 1e3:.2f} | {tuned * 1e3:.2f} | {mine * 1e3:.2f} | {default / mine:.2f} "
              f"| {tuned / mine:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
