"""Help pages: options in sections, at most 60 lines; `--help-all` shows every option in full.

A command is made with `cls=Command`. Its own options are made with click.option and stand first; `of_output("--name")`
and its like put an option into a section. The examples of a page are the lines of its docstring that begin with
`basiscli`; two at least.
"""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import click

from basiscli.cli.stopping import exit_code, say_how_to_go_on

LINES = 60
# The sections of a page, in their order.
OWN, ACTIVATIONS, MATCHING, NETWORK, TRAINING, START, OUTPUT, MACHINE, HELP = SECTIONS = (
    "Options",
    "Activations",
    "Matching and correcting",
    "Network",
    "Training",
    "Weights of another network",
    "Files and output",
    "Machine",
    "Help",
)
# On a longer page, sections are folded to the names of their options, in this order, until the page fits.
FOLDED = (START, TRAINING, NETWORK, MACHINE, MATCHING, ACTIVATIONS, OUTPUT)
# What click calls numbers in a range.
NUMBERS = {"INTEGER RANGE": "N", "INTEGER": "N", "FLOAT RANGE": "X"}
# What is said after an interruption.
AGAIN, GOES_ON = "every file is whole, the same command begins again", "the same command goes on"
_WHOLE = f"{__name__}.whole"


class Option(click.Option):
    """An option that knows its section of the help page."""

    def __init__(self, *arguments: Any, section: str = OWN, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.section = section


option = partial(click.option, cls=Option)
of_activations, of_matching = partial(option, section=ACTIVATIONS), partial(option, section=MATCHING)
of_network, of_training = partial(option, section=NETWORK), partial(option, section=TRAINING)
of_start, of_output = partial(option, section=START), partial(option, section=OUTPUT)
of_machine = partial(option, section=MACHINE)


class Command(click.Command):
    """A command whose help page has sections, and that says how to go on after an interruption.

    go_on: what is said then, unless the library has said it. It also takes `--help-all`.
    """

    def __init__(self, *arguments: Any, go_on: str = AGAIN, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.go_on = go_on

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            say_how_to_go_on(error, self.go_on)
            raise click.exceptions.Exit(exit_code(error)) from error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), _HELP_ALL]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        above = formatter.getvalue().count("\n")
        for folded in range(len(FOLDED) + 1):
            text = self._sections(ctx, FOLDED[:folded])
            if ctx.meta.get(_WHOLE) or above + text.count("\n") <= LINES:
                break
        formatter.write(text)

    def _sections(self, context: click.Context, folded: Sequence[str]) -> str:
        """Return the options in their sections; of folded sections only the names of the options."""
        formatter = context.make_formatter()
        options = [one for one in self.get_params(context) if isinstance(one, click.Option) and not one.hidden]
        sections = {title: [one for one in options if _section(one) == title] for title in SECTIONS}
        names = {
            title: ", ".join(one.opts[-1] for one in sections[title])
            for title in SECTIONS
            if title in folded and sections[title]
        }
        for title, shown in sections.items():
            if title == HELP and names:
                with formatter.section("More options, in full by --help-all"):
                    for name, listed in names.items():
                        formatter.write(_wrapped(f"{name}: {listed}", formatter.width))
            if shown and title not in folded:
                with formatter.section(title):
                    formatter.write_dl([_record(option, context) for option in shown])
        return formatter.getvalue()


class Group(Command, click.Group):
    """A group of commands."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def whole_page(context: click.Context) -> str:
    """Return the help page of a command with every option in full."""
    context.meta[_WHOLE] = True  # which contexts above and below share
    try:
        return context.command.get_help(context)
    finally:
        del context.meta[_WHOLE]


def _section(option: click.Option) -> str:
    """Return the section of an option; click makes --help itself."""
    return HELP if "--help" in option.opts else getattr(option, "section", OWN)


def _record(option: click.Option, context: click.Context) -> tuple[str, str]:
    """Return an option with its metavar, and what it says."""
    names, text = cast("tuple[str, str]", option.get_help_record(context))
    for long, short in NUMBERS.items():
        names = names.removesuffix(long) + short if names.endswith(f" {long}") else names
    return names, text


def _wrapped(text: str, width: int) -> str:
    """Return indented lines; names of options are never broken."""
    lines = textwrap.wrap(text, width - 4, break_on_hyphens=False, break_long_words=False)
    return "".join(f"  {line}\n" for line in "\n  ".join(lines).splitlines())


def _show_whole_page(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(whole_page(context), color=context.color)
        context.exit()


_HELP_ALL = Option(
    ["--help-all"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_whole_page,
    help="Show every option in full.",
    section=HELP,
)
