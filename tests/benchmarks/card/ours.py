"""What is measured of basiscli on a card. Every part yields records, and goes on with the next after a failure."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from basiscli.data import Dataset, Split
from basiscli.device import placement, selftest
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run
from tests.benchmarks.card.tasks import CLASSES, GIGA, TERA, Task, bytes_of, operations_of


@contextmanager
def reporting(say: Callable[..., None], **what: object) -> Iterator[None]:
    """Say what failed instead of raising it; a card that is lost ends the part, since nothing more would work."""
    try:
        yield
    except Exception as error:
        say(**what, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        if placement.failed(error):
            raise SystemExit(LOST) from error


LOST = 3  # the exit code of a part that has lost the card


def look(say: Callable[..., None]) -> None:
    """Say which card, driver and libraries there are. Ends the part where there is no card."""
    if why := placement.trouble():
        say(failed=f"a card is needed, and there is none: {why}")
        raise SystemExit(1)
    import cupy

    runtime = cupy.cuda.runtime
    properties, (free, total) = runtime.getDeviceProperties(0), runtime.memGetInfo()
    say(
        card=properties["name"].decode(), capability=placement.capability() / 10, free_gb=free / GIGA,
        total_gb=total / GIGA, multiprocessors=properties["multiProcessorCount"], cupy=cupy.__version__,
        driver=runtime.driverGetVersion(), runtime=runtime.runtimeGetVersion(),
    )  # fmt: skip


def compile_one(family: str, precision: str) -> dict:
    """Compile a family of kernels through cupy, into its cache."""
    from basiscli.kernels import device

    begun = time.perf_counter()
    device._module(family, precision).get_function(FIRST[family])
    return {"family": family, "precision": precision, "seconds": time.perf_counter() - begun}


# A kernel of each family; asking for it compiles all of them.
FIRST = {
    "convolution": "convolution_16", "normalisation": "normalise", "pointwise": "relu", "pooling": "max_pool",
    "training": "sgd",
}  # fmt: skip
# What cupy says of a compiled kernel.
ATTRIBUTES = ("num_regs", "local_size_bytes", "shared_size_bytes")


def kernels(say: Callable[..., None], precision: str, after: str | None) -> None:
    """Compare every kernel with the reference, beginning after one that has taken the card with it."""
    checks = list(selftest.checks(selftest.SMALL))
    names = [check.name for check in checks]
    with placement.using("cuda", precision):
        for check in checks[names.index(after) + 1 if after else 0 :]:
            with reporting(say, kernel=check.name, precision=precision, ok=False):
                say(precision=precision, **selftest.compared(check, precision))
        from basiscli.kernels import device

        if after is None:
            for family, name in [("normalisation", "normalise_gradient"), *(("convolution", name) for name in TILED)]:
                kernel = device._kernel(family, name, precision if family == "convolution" else "float32")
                say(compiled=name, precision=precision, **{part: getattr(kernel, part, None) for part in ATTRIBUTES})


TILED = tuple(f"{name}_{n}" for name in ("convolution", "input_gradient", "weight_gradient") for n in (16, 32, 64))


def ceilings(say: Callable[..., None], precisions: tuple[str, ...], sizes: tuple[int, int]) -> None:
    """Say what copying an array and a large product reach, on random data."""
    size, side = sizes
    for precision in precisions:
        with reporting(say, precision=precision), placement.using("cuda", precision):
            say(precision=precision, copy_gb_s=selftest.copied(size), product_tflop_s=selftest.multiplied(side) / 1e3)


def run_of(task: Task, steps: int) -> Run:
    """Return networks at the beginning of their training, whose epochs have so many steps."""
    rng = np.random.default_rng(0)
    count = steps * task.batch
    split = Split(rng.integers(0, 256, (count, *task.shape), np.uint8), rng.integers(0, CLASSES, count))
    dataset = Dataset("random", split, Split(split.images[:1], split.labels[:1]), CLASSES, "")
    recipe = Recipe(epochs=10**6, batch_size=task.batch, schedule="constant", momentum=0.9, weight_decay=1e-4)
    return Run.start(task.network, recipe, dataset, range(task.seeds))


def step_milliseconds(task: Task, steps: int) -> float:
    """Return the milliseconds of a step of all seeds, by events after the first and the last step of an epoch."""
    import cupy

    run = run_of(task, steps)
    run.train_epoch()
    events, done = [], []

    def tick(count: int) -> None:
        if len(events) < 2:
            events.append(cupy.cuda.Event())
        events[-1].record()
        done.append(count)

    run.train_epoch(tick=tick)
    events[-1].synchronize()
    return cupy.cuda.get_elapsed_time(*events) / sum(done[1:])


def training(say: Callable[..., None], tasks: tuple[Task, ...], precisions: tuple[str, ...], steps: int) -> None:
    """Say how long a step of each task takes, and how many images of all seeds that is a second."""
    for precision in precisions:
        for task in tasks:
            with reporting(say, task=task.name, precision=precision), placement.using("cuda", precision):
                taken = step_milliseconds(task, steps)
                operations, moved = operations_of(task.network, task.batch), bytes_of(task.network, task.batch)
                say(
                    task=task.name, precision=precision, ms=taken, images_s=task.seeds * task.batch / taken * 1e3,
                    wanted=task.wanted, tflop_s=task.seeds * operations / taken * 1e3 / TERA,
                    gb_s=task.seeds * moved / taken * 1e3 / GIGA,
                )  # fmt: skip


def moments(say: Callable[..., None], shape: tuple[int, int]) -> None:
    """Say how long the moments of two arrays (samples, units) take, and the part of the product's speed."""
    from basiscli.analysis.accumulator import Accumulator

    samples, units = shape
    with placement.using("cuda"):
        few = min(samples, 10_000)
        parts = [
            placement.to_device(np.random.default_rng(k).standard_normal((few, units), np.float32)) for k in (0, 1)
        ]
        arrays = [np.repeat(part, samples // few, axis=0) for part in parts]

        def add() -> None:
            sums, size = Accumulator(2, full=True), min(samples, 1 << 16)
            for first in range(0, samples, size):
                sums.add([array[first : first + size] for array in arrays])
            sums.moments()

        add()
        begun = time.perf_counter()
        add()
        taken = time.perf_counter() - begun
        say(shape=list(shape), seconds=taken, gflop_s=2 * samples * 3 * units**2 / taken / GIGA)


def trained_under_profiler(say: Callable[..., None], task: Task, precision: str, steps: int, activity: str) -> None:
    """Print PyTorch's table of the kernels of some steps of ours; say how much of the time no kernel ran."""
    import torch

    with placement.using("cuda", precision):
        run = run_of(task, steps)
        run.train_epoch()
        placement.wait()
        with torch.profiler.profile(activities=[getattr(torch.profiler.ProfilerActivity, activity)]) as profile:
            begun = time.perf_counter()
            run.train_epoch()
            placement.wait()
            wall = time.perf_counter() - begun
    found = profile.key_averages()
    print(found.table(sort_by="self_cuda_time_total" if activity == "CUDA" else "self_cpu_time_total", row_limit=40))
    busy = sum(getattr(event, "self_device_time_total", 0) for event in found) / 1e6
    say(task=task.name, precision=precision, wall_ms=1e3 * wall, kernels_ms=1e3 * busy, steps=steps)
