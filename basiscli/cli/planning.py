"""Steps of a study at the command line: how their words are checked, where they compute, how they are interrupted."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import click

from basiscli.cli import options
from basiscli.cli.stopping import exit_code, say_how_to_go_on


def parse(name: str, words: Sequence[str]) -> Mapping:
    """Return the parameters of a command line without running it. Raises ValueError that names the fault."""
    command = import_module(f"basiscli.cli.commands.{name}").command
    needed = ["x.h5" for argument in command.params if isinstance(argument, click.Argument) and argument.required]
    try:
        return command.make_context(name, [*needed, *words], help_option_names=options.HELP).params
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error


def placed(step, device: str, precision: str):
    """Return a step with the options `--device` and `--precision`. Defaults are left out."""
    command = import_module(f"basiscli.cli.commands.{step.words[0]}").command
    known, words = {option.name: option.default for option in command.params}, list(step.words)
    for name, value in (("device", device), ("precision", precision)):
        if name in known and value != known[name]:
            if (option := f"--{name}") in words:
                del words[words.index(option) : words.index(option) + 2]
            words += [option, value]
    return replace(step, words=tuple(words))


def jobs_here(jobs: int | None, scheduler: str | None) -> int:
    """Return how many steps run at once on this machine. Raises UsageError for a number beside a scheduler."""
    if scheduler and jobs:
        raise click.UsageError("--jobs is for this machine; the workers of a --scheduler say what runs at once")
    return jobs or min(os.cpu_count() or 1, 2)


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process on Ctrl-C and SIGTERM, after its running steps; no thread is waited for."""
    from basiscli.study import execution

    try:
        yield
    except KeyboardInterrupt as error:
        say_how_to_go_on(error, "the running steps save and end, the same command goes on")
        execution.end_steps()
        os._exit(exit_code(error))
