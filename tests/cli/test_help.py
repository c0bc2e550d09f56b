"""Help pages: sections, examples, length; suggestions for mistyped names."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from basiscli.cli import help as pages
from basiscli.cli.group import group


def commands(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple]:
    """Yield the full name, the command and a fresh context of a command and of all below it, on 80 columns."""
    context = click.Context(
        command, info_name=name.split()[-1], parent=parent, terminal_width=80, help_option_names=["-h", "--help"]
    )
    yield name, command, context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from commands(f"{name} {child}", command.get_command(context, child), context)


COMMANDS = {name: (command, context) for name, command, context in commands("basiscli", group)}


def examples(page: str) -> list[list[str]]:
    """The words of each command of the examples on a page."""
    lines = re.findall(r"^  (basiscli .*)$", page, re.M)
    return [shlex.split(part) for line in lines for part in line.partition(" > ")[0].split(" | ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_short_and_names_every_option_and_the_whole_page_explains_them(name):
    command, context = COMMANDS[name]
    assert isinstance(command, pages.Command), "make it with cls=Command of basiscli.cli.help"
    page, whole = command.get_help(context), pages.whole_page(context)
    assert len(page.splitlines()) <= pages.LINES and max(map(len, page.splitlines())) <= 80
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            assert re.search(rf"{option.opts[-1]}\b", page), option.opts
            assert re.search(rf"^  (?=\S).*{option.opts[-1]}\b", whole, re.M), option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_two_examples_that_parse(name):
    command, context = COMMANDS[name]
    page = command.get_help(context)
    assert len(re.findall(r"^  basiscli ", page, re.M)) >= 2
    for program, *words in examples(page):
        assert program == "basiscli"
        parent, called = None, group
        while isinstance(called, click.Group):
            parent = click.Context(called, parent=parent)
            called = called.get_command(parent, words.pop(0))
        assert called.make_context(called.name, words, parent=parent).params is not None
    if name != "basiscli":
        assert any(name.split()[1] in words for words in examples(page))


def test_sections_stand_in_their_order_and_fold_on_a_long_page():
    command, context = COMMANDS["basiscli train"]
    page = command.get_help(context)
    assert "\nOptions:\n" in page and "\nFiles and output:\n" in page and "\nNetwork:\n" not in page
    assert re.search(r"More options.*\n(.*\n)*  Network: --depth, --hidden, --layout", page)
    whole = pages.whole_page(click.Context(command, info_name="train"))
    titles = re.findall(r"^(\w.*):$", whole, re.M)
    assert titles == [title for title in pages.SECTIONS if title in titles] and "Network" in titles


def test_help_all_is_an_option(basiscli):
    done = basiscli("train", "--help-all")
    assert done.code == 0 and "Rate between" not in basiscli("train", "--help").stdout
    assert "--label-smoothing X" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "meant"),
    [
        (("train", "--model", "resent"), 2, "resnet"),
        (("train", "--dataset", "digist"), 1, "digits"),
        (("data", "fetch", "cifar01"), 1, "cifar10"),
        (("study", "mnits"), 1, "mnist"),
        (("correlate", "a.h5", "b.h5", "--null", "rotate"), 2, "rotated"),
        (("corelate",), 2, "correlate"),
        (("train", "--hiden", "2"), 2, "--hidden"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistyped_name_gets_a_suggestion(basiscli, words, code, meant):
    done = basiscli(*words)
    assert done.code == code and re.search(rf"did you mean.* '?{meant}", done.stderr, re.I), done.stderr
