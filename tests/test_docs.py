"""The documentation says what is there."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from basiscli.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_commands_are_those_of_the_help_texts():
    maker = runpy.run_path(str(ROOT / "docs/make_commands.py"))
    assert (ROOT / "docs/commands.md").read_text() == maker["page"](), "run python docs/make_commands.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def commands_of(line: str) -> list[list[str]]:
    """The words of each command of a shell line, which `|`, `&&` or `;` separate."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    groups: list[list[str]] = [[]]
    for word in words:
        groups.append([]) if set(word) <= set("|&;") else groups[-1].append(word)
    return [group for group in groups if group]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_in_code_blocks_parse(page, basiscli):
    """Every `basiscli NAME OPTIONS` in a shell block names a command and options that exist."""
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            for words in commands_of(line.lstrip("$ ")):
                if not words[0].endswith("basiscli") or words[1].startswith("-"):
                    continue
                assert words[1] in COMMANDS, line
                help_text = basiscli(*words[1:3] if words[1] == "data" else words[1:2], "--help").stdout
                for option in (word.split("=")[0] for word in words if word.startswith("--")):
                    assert option in help_text, f"{page.name}: {option} in {line!r}"


def test_nothing_in_the_tree_is_of_one_machine():
    ignored = {".git", ".venv", "__pycache__", ".hypothesis", ".pytest_cache", ".ruff_cache", "runs", "build"}
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".md", ".toml", ".txt", ""} and path.is_file() and not ignored & set(path.parts):
            text = path.read_text(errors="replace")
            assert not re.search(r"/(home|root|tmp|work)/\w", text), path
