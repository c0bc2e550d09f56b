"""Write docs/api.md from the docstrings: `python docs/make_api.py`. A test holds the two in step."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import basiscli

PAGE = Path(__file__).with_name("api.md")
HEAD = """# basiscli in a program

Made of the docstrings by `python docs/make_api.py`; do not edit.

`import basiscli` serves a program or a notebook as the commands serve a shell, with the same functions below and the
same numbers. [notebook.ipynb](notebook.ipynb) goes from arrays of one's own to a figure. Results print as tables, show
as tables in a notebook, and have `.plot()`, a matplotlib figure.

"""
SECTIONS = {
    "Arrays": (
        "correlate", "pairwise", "cka", "cca", "svcca", "pwcca", "procrustes", "soft_matching", "privilege",
        "universality", "BasisCorrelation",
    ),
    "Networks": ("load", "train", "match", "interpolate", "rotate"),
    "Results": (
        "Correlation", "Pairwise", "Privilege", "Universality", "TrainedNetwork", "Matching", "Interpolation",
        "Rotations", "Table",
    ),
    "Errors": ("BadInput",),
}  # fmt: skip
# Classes that a program makes itself; the others are results of functions.
CONSTRUCTED = ("BasisCorrelation", "Table")
WIDTH = 100


def page() -> str:
    """Return the text of docs/api.md."""
    _, question, session = inspect.getdoc(basiscli).split("\n\n", 2)
    parts = [HEAD, f"{question}\n\n", _fenced("pycon", session)]
    for section, names in SECTIONS.items():
        parts.append(f"\n## {section}\n")
        parts.extend(_entry(name, getattr(basiscli, name)) for name in names)
    return "".join(parts)


def _entry(name: str, thing: object) -> str:
    signature = ""
    if inspect.isfunction(thing):
        signature = _fenced("python", _signature(thing, name))
    elif name in CONSTRUCTED:
        signature = _fenced("python", f"{name}{inspect.signature(thing)}".replace(" -> None", ""))
    text = f"\n### {name}\n\n{signature}{_blocks(inspect.getdoc(thing))}"
    return text + "".join(_members(thing) if inspect.isclass(thing) else ())


def _members(thing: type) -> Iterator[str]:
    """Yield the text of each public property and method, in the order of the source, those of a base first."""
    members = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("basiscli"):
            members |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in members.items():
        if isinstance(member, property):
            yield f"\n`.{name}`\n\n{_blocks(inspect.getdoc(member))}"
        elif inspect.isfunction(member):
            yield f"\n{_fenced('python', _signature(member, '.' + name))}{_blocks(inspect.getdoc(member))}"


def _signature(function, name: str) -> str:
    """Return a signature as the source has it, a parameter a line where one line is too long."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
    returns = ast.unparse(node.returns).strip("'")
    whole = f"{name}({ast.unparse(node.args)}) -> {returns}"
    if len(whole) <= WIDTH:
        return whole
    parameters = inspect.signature(function).parameters.values()
    given = _arguments(node.args, any(p.kind is p.KEYWORD_ONLY for p in parameters))
    return "\n".join([f"{name}(", *(f"    {line}," for line in given), f") -> {returns}"])


def _arguments(arguments: ast.arguments, starred: bool) -> Iterator[str]:
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    yield from map(_argument, arguments.args, defaults)
    if starred:
        yield "*"
    yield from map(_argument, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield f"**{_argument(arguments.kwarg, None)}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def _blocks(text: str) -> str:
    """Return a docstring as two blocks, what it says and its example; formulas would not survive as Markdown."""
    said, mark, example = text.partition(">>> ")
    return _fenced("text", said.strip()) + ("\n" + _fenced("pycon", (mark + example).strip()) if mark else "")


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
