"""Write docs/commands.md from the help texts: `python docs/make_commands.py`. A test holds the two in step."""

from collections.abc import Iterator
from pathlib import Path

import click

from basiscli.cli.group import group
from basiscli.cli.help import whole_page

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

Made of the help texts by `python docs/make_commands.py`; do not edit. Every option is here in full, as by
`basiscli NAME --help-all`; `--help` is at most 60 lines and only names some of them.

Records go to stdout: a table on a terminal, one JSON object a line in a pipe; `--format` decides otherwise. Progress
and messages go to stderr. Exit codes: 0, 1 for input that cannot be used (one line on stderr says what and where), 2
for a wrong command line, 130 after Ctrl-C, 143 after SIGTERM, 141 when the reader of stdout has left.

Shell completion: `eval "$(_BASISCLI_COMPLETE=bash_source basiscli)"` in ~/.bashrc, `zsh_source` in ~/.zshrc, or
`_BASISCLI_COMPLETE=fish_source basiscli | source` in fish.
"""


def page() -> str:
    """Return the text of docs/commands.md."""
    return HEAD + "".join(f"\n## {name}\n\n```\n{text}\n```\n" for name, text in helps("basiscli", group))


def helps(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield (full name, help text) of a command and of all below it."""
    names = ["-h", "--help"]
    context = click.Context(
        command, info_name=name.split()[-1], parent=parent, terminal_width=100, help_option_names=names
    )
    yield name, whole_page(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from helps(f"{name} {child}", command.get_command(context, child), context)


if __name__ == "__main__":
    PAGE.write_text(page())
