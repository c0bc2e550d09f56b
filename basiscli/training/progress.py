"""How far training has come, where notes are shown: a live display on a terminal, a note an epoch elsewhere."""

import logging
import sys
import time
from contextlib import AbstractContextManager

from basiscli.device import placement
from basiscli.notes import log
from basiscli.training.run import Run


class Progress(AbstractContextManager):
    """Shows the training of one run after another; use as a context manager.

    steps: the batches that all runs together will take, for the remaining time.
    """

    def __init__(self, steps: int):
        self._total, self._done, self._began = steps, 0, time.monotonic()
        self._live = None
        self._alive: tuple = (None, ())
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            from rich.console import Console
            from rich.live import Live

            # Records that go into a pipe must not land on the terminal, where rich would write them by default.
            self._live = Live(
                console=Console(stderr=True), refresh_per_second=4, transient=True, redirect_stdout=sys.stdout.isatty()
            )

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Note a line that stays."""
        log.info(text)

    def tick(self, run: Run, steps: int) -> None:
        """Count some steps."""
        self._done += steps
        if self._live:
            # Which seeds are alive is asked of a GPU once an epoch: the question waits for all steps before it.
            if self._alive[0] is not run or not placement.on_gpu():
                self._alive = run, tuple(placement.to_host(run.alive))
            self._live.update(_table(run, self._alive[1], self._bar()))

    def close_epoch(self, run: Run) -> None:
        """Say how the epoch that has just ended went."""
        if self._live:
            self._alive = run, tuple(placement.to_host(run.alive))
            self._live.update(_table(run, self._alive[1], self._bar()))
            return
        accuracy = " ".join(f"{value:.4f}" for value in run.history["test_accuracy"][-1])
        loss = " ".join(f"{value:.4f}" for value in run.history["train_loss"][-1])
        seeds = ",".join(map(str, run.seeds))
        self.note(
            f"epoch {run.epoch}/{run.recipe.epochs} seeds {seeds}: train loss {loss}, test accuracy {accuracy}, "
            f"{self._remaining()} left"
        )

    def _remaining(self) -> str:
        if not self._done:
            return "?"
        seconds = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        minutes, seconds = divmod(round(seconds), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    def _bar(self) -> str:
        part = self._done / max(self._total, 1)
        filled = round(30 * part)
        return f"{'━' * filled}{'╺' * (30 - filled)} {part:4.0%}, {self._remaining()} left"


def _table(run: Run, alive: tuple, bar: str):
    """Return the live display: a row a seed with its losses and accuracy, and the bar."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD, title=f"epoch {min(run.epoch + 1, run.recipe.epochs)}/{run.recipe.epochs}", caption=bar
    )
    for column in ("seed", "train loss", "train accuracy", "test loss", "test accuracy", "status"):
        table.add_column(column, justify="right")
    last = {name: rows[-1] for name, rows in run.history.items()}
    for s, seed in enumerate(run.seeds):
        cells = (
            f"{last[name][s]:.4f}" if last else ""
            for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        )
        table.add_row(str(seed), *cells, "training" if alive[s] else "diverged")
    return table
