"""The parts by name: what the process of each does."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.card import layers, ours, peer
from tests.benchmarks.card.tasks import PRECISIONS, REHEARSED, TASKS

# What a part does on a card, and how little of it in a rehearsal.
FULL = {"steps": 200, "repeats": 20, "ceilings": (512 << 20, 8192), "moments": (1_000_000, 1024), "peer": 100}
SMALL = {"steps": 3, "repeats": 1, "ceilings": (1 << 12, 32), "moments": (300, 7), "peer": 1}
# Kernels of convolutions, which take most of a step: what ncu looks at.
DEAREST = "regex:weight_gradient_|input_gradient_|convolution_|normalise_gradient|sum_products"
ROOT = Path(__file__).parents[3]
# The file of the records of all parts.
RECORDS = "records.jsonl"


class Part:
    """One part at work: where it says what it found, and how much it does."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.name = options, options.part
        self.amount, self.tasks = (SMALL, REHEARSED) if options.rehearse else (FULL, TASKS)

    def say(self, **fields) -> None:
        """Append a record, so that it is there whatever comes next."""
        with (self.options.out / RECORDS).open("a") as file:
            file.write(json.dumps({"part": self.name.partition("-")[0], **fields}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def run(self) -> int:
        """Do what the part is there for; returns its exit code."""
        if self.options.rehearse:
            from tests.emulation import fake
        with fake.installed() if self.options.rehearse else nullcontext():
            return getattr(self, self.name.partition("-")[0])() or 0

    def look(self) -> None:
        ours.look(self.say)

    def compile(self) -> None:
        """All families and precisions at once, each in a process; a rehearsal has one, whose cupy is none."""
        from basiscli.kernels import device

        wanted = [(f, p) for f in device.FAMILIES for p in (PRECISIONS if f == "convolution" else PRECISIONS[:1])]
        if self.options.rehearse:
            for family, precision in wanted:
                self.say(**ours.compile_one(family, precision))
            return
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for done in [pool.submit(ours.compile_one, *pair) for pair in wanted]:
                with ours.reporting(self.say):
                    self.say(**done.result())

    def selftest(self) -> None:
        ours.kernels(self.say, self.name.partition("-")[2], self.options.after)

    def card(self) -> int:
        """Run the tests of a card, of which a rehearsal takes the smallest."""
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/device/test_card.py"]
        words += ["-k", "mlp and not gelu and not tanh"] if self.options.rehearse else []
        # Plugins that happen to be installed may want what is not.
        environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment).returncode

    def ceilings(self) -> None:
        ours.ceilings(self.say, PRECISIONS, self.amount["ceilings"])

    def layers(self) -> None:
        layers.layers(self.say, self.tasks, "tf32", self.amount["repeats"])

    def training(self) -> None:
        precisions = PRECISIONS[1:2] if self.options.rehearse else ("tf32", "float32", "bf16")
        ours.training(self.say, self.tasks, precisions, self.amount["steps"])

    def moments(self) -> None:
        with ours.reporting(self.say):
            ours.moments(self.say, self.amount["moments"])

    def pytorch(self) -> None:
        """All ways of one kind before the next, so that compiling, the slowest, comes last."""
        place = "cpu" if self.options.rehearse else "cuda"
        for way in peer.WAYS:
            for task in self.tasks:
                what = {"task": task.name, "precision": "tf32", "way": way}
                if place == "cpu" and way == "graph":
                    continue
                with ours.reporting(self.say, **what):
                    backend = "eager" if place == "cpu" else "inductor"
                    taken = peer.milliseconds(task, "tf32", place, way, self.amount["peer"], backend)
                    self.say(**what, ms=taken, images_s=task.batch / taken * 1e3)

    def profile(self) -> None:
        activity = "CPU" if self.options.rehearse else "CUDA"
        steps = min(self.amount["steps"], 50)
        with ours.reporting(self.say):
            ours.trained_under_profiler(self.say, self.tasks[1], "tf32", steps, activity)

    def once(self) -> None:
        """One step of a task, for a tool that looks on."""
        with ours.placement.using("cuda", "tf32"):
            run = ours.run_of(self.tasks[1], 2)
            run.train_epoch(stop=lambda: True)

    def ncu(self) -> int:
        words = ["ncu", "--target-processes", "all", "--kernel-name", DEAREST, "--launch-count", "12",
                 "--section", "SpeedOfLight", "--section", "Occupancy", "--section", "WarpStateStats"]  # fmt: skip
        return self._under(words, "once")

    def sanitizer(self) -> int:
        """Every kernel with cupy's pool off, so that each array has a fence of its own."""
        return self._under(["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"], "bare")

    def bare(self) -> None:
        if not self.options.rehearse:
            import cupy

            cupy.cuda.set_allocator(None)
        ours.kernels(lambda **fields: print(fields, flush=True), "tf32", None)

    def _under(self, tool: list[str], part: str) -> int:
        """Run a part under a tool, where that is on the path."""
        found = shutil.which(tool[0])
        if not found and not self.options.rehearse:
            self.say(failed=f"{tool[0]} is not on the path")
            return 1
        words = [sys.executable, str(ROOT / "tests/benchmarks/gpu.py"), "--part", part, "--out", str(self.options.out)]
        words += ["--rehearse"] if self.options.rehearse else []
        return subprocess.run([*(tool if found else ()), *words]).returncode


def work(options: argparse.Namespace) -> int:
    """Do a part."""
    return Part(options).run()
