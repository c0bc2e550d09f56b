"""The peer on the same card: PyTorch, one network at a time, eagerly, as a CUDA graph of the whole step, compiled."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from tests.benchmarks.card.tasks import CLASSES, Task

WAYS = ("eager", "graph", "compile")


def steps_of(task: Task, precision: str, place: str, way: str, backend: str = "inductor") -> Callable[[], None]:
    """Return what takes a step: SGD with momentum and decay, channels_last, images ready on the card."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    model = module_of(torch, task).to(place)
    images = torch.randn(task.batch, task.shape[2], *task.shape[:2], device=place)
    if len(task.network.nodes[0].shape) == 3:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (task.batch,), device=place)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True)
    show = torch.compile(model, backend=backend) if way == "compile" else model
    automatic = torch.autocast(place, torch.bfloat16) if precision == "bf16" else nullcontext()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with automatic:
            loss = torch.nn.functional.cross_entropy(show(images), labels)
        loss.backward()
        optimizer.step()

    return _captured(torch, step) if way == "graph" else step


def _captured(torch, step: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a graph of a step, captured after a few on another stream, as PyTorch's manual has it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(task: Task, precision: str, place: str, way: str, steps: int, backend: str = "inductor") -> float:
    """Return the milliseconds of a step of one network."""
    import torch

    wait = torch.cuda.synchronize if place == "cuda" else lambda: None
    step = steps_of(task, precision, place, way, backend)
    for _ in range(3):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return 1e3 * (time.perf_counter() - start) / steps


def module_of(torch, task: Task):
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
