"""The command group: an explicit map of commands. A command is imported only when it is called or listed."""

import importlib
import sys

import click

from basiscli import __version__
from basiscli.cli import records, streams
from basiscli.cli.help import AGAIN, Group
from basiscli.cli.messages import notes_on_stderr, spoken
from basiscli.cli.options import HELP
from basiscli.cli.stopping import exit_code, terminable
from basiscli.errors import BadInput, suggestion

# Command modules import click at the top and all heavy modules inside their functions, so `--help` stays fast.
COMMANDS = {
    "check": "basiscli.cli.commands.check",
    "compare": "basiscli.cli.commands.compare",
    "connectivity": "basiscli.cli.commands.connectivity",
    "correlate": "basiscli.cli.commands.correlate",
    "data": "basiscli.cli.commands.data",
    "doctor": "basiscli.cli.commands.doctor",
    "evolve": "basiscli.cli.commands.evolve",
    "freeze": "basiscli.cli.commands.freeze",
    "interpolate": "basiscli.cli.commands.interpolate",
    "match": "basiscli.cli.commands.match",
    "merge": "basiscli.cli.commands.merge",
    "models": "basiscli.cli.commands.models",
    "privilege": "basiscli.cli.commands.privilege",
    "record": "basiscli.cli.commands.record",
    "report": "basiscli.cli.commands.report",
    "rotate": "basiscli.cli.commands.rotate",
    "selftest": "basiscli.cli.commands.selftest",
    "show": "basiscli.cli.commands.show",
    "study": "basiscli.cli.commands.study",
    "train": "basiscli.cli.commands.train",
    "transform": "basiscli.cli.commands.transform",
}

# The most characters of a message: three lines of a wide terminal.
LONGEST = 600
EXIT_BAD_INPUT = 1


class LazyGroup(Group):
    """A click group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command:
        if name not in COMMANDS:
            ctx.fail(f"No such command '{name}'{suggestion(name, COMMANDS) or '.'}")
        return importlib.import_module(COMMANDS[name]).command


@click.group(cls=LazyGroup, context_settings={"help_option_names": HELP, "max_content_width": 100})
@click.version_option(__version__, prog_name="basiscli")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def group(debug: bool) -> None:
    """Do single neurons mean anything? Train networks over seeds and compare their bases.

    Networks and activations are HDF5 files; records go to stdout, a table on a terminal and JSON lines in a pipe.

    \b
    basiscli train --seeds 5 | basiscli correlate - --null rotated
    basiscli study --dry-run
    """


def main() -> None:
    """Run the command line. Every failure becomes one or two lines on stderr and an exit code (docs/commands.md)."""
    debug = "--debug" in sys.argv[1:2]
    streams.prepare()
    try:
        with terminable(), notes_on_stderr():
            code = group.main(standalone_mode=False, prog_name="basiscli")
        streams.write("")
    except click.ClickException as error:
        _say_wrong_words(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        streams.say(f"basiscli: interrupted; {AGAIN}")  # before or after the command itself, which says more
        code = exit_code(error)
    except BrokenPipeError:
        code = records.EXIT_BROKEN_PIPE
    except Exception as error:
        if debug:
            raise
        streams.say(f"basiscli: error: {_short(describe(error))}")
        code = EXIT_BAD_INPUT
    streams.close()
    sys.exit(code)


def _say_wrong_words(error: click.ClickException) -> None:
    """Say what is wrong with a command line, and how to get help."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # from click 8.2 on
        error.show()
        return
    streams.say(f"basiscli: error: {_short(error.format_message())}")
    context = getattr(error, "ctx", None)
    if context:
        streams.say(f"Try '{context.command_path} --help'.")


def _short(text: str) -> str:
    """Return a message as one line that is not too long: of a long one the beginning and the end, with the remedy."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def describe(error: Exception) -> str:
    """Return the line about an exception that the user reads."""
    on_gpu = type(error).__module__.startswith(("cupy", "basiscli.kernels.cublas"))
    if isinstance(error, BadInput):
        text = spoken(str(error))
    elif isinstance(error, MemoryError) and on_gpu:
        text = f"not enough memory on the GPU ({error}); use fewer seeds at once, smaller layers, or --device cpu"
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error}); use fewer seeds at once, smaller layers or fewer samples"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'input or output'}: {error.strerror}"
    elif on_gpu:
        text = f"the GPU failed: {error} (--device cpu does without it, basiscli selftest looks what works)"
    else:
        text = f"unexpected {type(error).__name__}: {error} (basiscli --debug ... shows where)"
    return text
