"""The documentation says what is there."""

import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import basiscli
from basiscli.cli.group import COMMANDS
from tests.helpers import planted
from tests.helpers.command_line import shell

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_commands_are_those_of_the_help_texts():
    maker = runpy.run_path(str(ROOT / "docs/make_commands.py"))
    assert (ROOT / "docs/commands.md").read_text() == maker["page"](), "run python docs/make_commands.py"


def test_the_page_of_functions_is_that_of_the_docstrings():
    maker = runpy.run_path(str(ROOT / "docs/make_api.py"))
    assert sorted(name for names in maker["SECTIONS"].values() for name in names) == sorted(basiscli.__all__)
    assert (ROOT / "docs/api.md").read_text() == maker["page"](), "run python docs/make_api.py"


def test_the_session_of_the_readme_is_that_of_the_package():
    """Which a test of tests/api runs."""
    (session,) = re.findall(r"```pycon\n(.*?)\n```", README, re.S)
    assert inspect.getdoc(basiscli).endswith(session) and session in (ROOT / "docs/api.md").read_text()
    assert len(session.splitlines()) <= 20


@pytest.mark.slow
def test_the_notebook_runs():
    notebook = runpy.run_path(str(ROOT / "docs/make_notebook.py"))["executed"]()
    shown = [set(output.get("data", ())) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in kinds for kinds in shown) >= 3 and sum("text/html" in kinds for kinds in shown) >= 3


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
                help_text = basiscli(*words[1:3] if words[1] == "data" else words[1:2], "--help-all").stdout
                for option in (word.split("=")[0] for word in words if word.startswith("--")):
                    assert option in help_text, f"{page.name}: {option} in {line!r}"


def lines_of(text: str) -> list[str]:
    """The lines of the shell blocks of a text."""
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines() if line]


def printed(line: str, folder: Path, **variables: str) -> str:
    """Run a line in bash, assert that it succeeds, and return what it printed."""
    finished = shell(f"set -eu\n{line}", folder, **variables)
    assert finished.returncode == 0, f"{line}\n{finished.stderr}"
    return finished.stdout


README = (ROOT / "README.md").read_text()
TOUR = lines_of(README[README.index("## A tour") : README.index("**Shell completion**")])


def test_the_tour_has_every_command():
    assert {words[1] for line in TOUR for words in commands_of(line) if words[0] == "basiscli"} == set(COMMANDS)


@pytest.mark.slow
def test_the_tour_runs(tmp_path):
    """Every line, in order, in one folder in which the study was run, and writes what it says."""
    planted.study(tmp_path / "runs/study-digits")
    for line in TOUR:
        printed(line, tmp_path)
        for target in re.findall(r"(?:--plot|--out|--apply|>) (\S+)", line):
            assert (tmp_path / target).exists(), line


def test_shell_completion_is_as_documented(tmp_path):
    (line,) = lines_of(README[README.index("**Shell completion**") :])
    printed(line, tmp_path, HOME=str(tmp_path))
    ask = "source ~/.bashrc; COMP_WORDS=(basiscli st); COMP_CWORD=1; _basiscli_completion basiscli"
    assert printed(ask + '; echo "${COMPREPLY[@]}"', tmp_path, HOME=str(tmp_path)).split() == ["study"]


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    """The program that writes activations of PyTorch networks, and what it does with them."""
    pytest.importorskip("torch")
    text = (ROOT / "docs/tutorial.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines = [line for line in lines_of(text) if "mine" in line]
    assert len(lines) >= 2
    for line in lines:
        assert printed(line, tmp_path), line
    assert (tmp_path / "mine.png").exists()


def test_nothing_in_the_tree_is_of_one_machine():
    ignored = {".git", ".venv", "__pycache__", ".hypothesis", ".pytest_cache", ".ruff_cache", "runs", "build"}
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".md", ".toml", ".txt", ""} and path.is_file() and not ignored & set(path.parts):
            text = path.read_text(errors="replace")
            assert not re.search(r"/(home|root|tmp|work)/\w", text), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_wrapped_at_120_columns(page):
    """Code, tables and lines that are one link may be longer."""
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.S | re.M)
    for line in prose.splitlines():
        free = line.lstrip().startswith("|") or re.fullmatch(r"\s*(?:[-*] )?!?\[[^]]*\]\([^)]*\)\S*", line)
        assert len(line) <= 120 or free, f"{page.name}: {line[:60]}..."
