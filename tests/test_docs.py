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
from tests.helpers.terminal import in_terminal, sample_pattern, seen

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_commands_are_those_of_the_help_texts():
    maker = runpy.run_path(str(ROOT / "docs/make_commands.py"))
    assert (ROOT / "docs/commands.md").read_text() == maker["page"](), "run python docs/make_commands.py"


def test_the_page_of_functions_is_that_of_the_docstrings():
    maker = runpy.run_path(str(ROOT / "docs/make_api.py"))
    assert sorted(name for names in maker["SECTIONS"].values() for name in names) == sorted(basiscli.__all__)
    assert (ROOT / "docs/api.md").read_text() == maker["page"](), "run python docs/make_api.py"


def test_the_page_of_files_is_that_of_the_schema():
    maker = runpy.run_path(str(ROOT / "docs/make_format.py"))
    assert (ROOT / "docs/format.md").read_text() == maker["page"](), "run python docs/make_format.py"


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


def samples_of(text: str) -> list[tuple[str, str]]:
    """The stops of a text: a shell block, and a block with a few lines of what its last command prints."""
    return re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", text, re.S)


def printed(line: str, folder: Path, **variables: str) -> str:
    """Run a line in bash, assert that it succeeds, and return what it printed."""
    finished = shell(f"set -eu\n{line}", folder, **variables)
    assert finished.returncode == 0, f"{line}\n{finished.stderr}"
    return finished.stdout


README = (ROOT / "README.md").read_text()
TOUR_TEXT = README[README.index("## A tour") : README.index("**In a program.**")]
TOUR = lines_of(TOUR_TEXT)
STOPS = samples_of(TOUR_TEXT)


def test_the_setup_is_on_the_first_screen():
    first = README[: README.index("<!-- end of setup -->")].splitlines()
    commands = [line for line in first if line.startswith("python3 ")]
    assert len(first) < 45 and len(commands) == 2
    assert all(len(line) <= 120 for line in first)
    for word in ("basis", "privileged", "convergent"):
        assert f"**{word}**" in README[: README.index("<!-- setup -->")]
    assert len(README.splitlines()) <= 360


@pytest.mark.parametrize("term", ["rotated null", "aligned ceiling", "barrier", "pre", "post", "held out"])
def test_a_term_is_explained_where_the_readme_first_uses_it(term):
    """Before it stands in italics, no sentence of the README's prose has it."""
    prose = re.sub(r"```.*?```|!?\[.*?\]\(.*?\)", "", README, flags=re.S)
    assert re.search(rf"(?<!\w){term}(?!\w)", prose.replace("\n", " ")).start() - prose.index(f"*{term}*") in (0, 1)


def test_the_tour_has_every_command():
    assert {words[1] for line in TOUR for words in commands_of(line) if words[0] == "basiscli"} == set(COMMANDS)


def test_every_stop_of_the_tour_has_a_sample():
    assert len(STOPS) == TOUR_TEXT.count("```sh\n") >= 10
    for _, sample in STOPS:
        assert max(map(len, sample.splitlines())) <= 80


def run_in_one_shell(lines: list[str], folder: Path) -> list[str]:
    """Run lines as they stand, in one shell in a terminal of 80 columns; return what each of them printed."""
    script = "\n".join(f"echo '<{k}>'\n{line}" for k, line in enumerate(lines))
    code, written = in_terminal(f"set -eu\n{script}\necho '<end>'", folder)
    assert code == 0, seen(written)[-2000:]
    return re.split(r"(?m)^<(?:\d+|end)>\n?$", seen(written))[1:-1]


def assert_samples(stops: list[tuple[str, str]], lines: list[str], outputs: list[str]) -> None:
    """Assert that every sample has the shape of what the command before it printed."""
    for block, sample in stops:
        command = block.splitlines()[-1]
        output = outputs[lines.index(command)]
        assert re.search(sample_pattern(sample), output), f"{command} prints\n{output}\nand the page shows\n{sample}"


@pytest.mark.slow
def test_the_tour_runs_and_runs_again(tmp_path):
    """In the folder in which the study was run; it writes what it says, and prints what it shows."""
    planted.study(tmp_path / "runs/study-digits")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    assert_samples(STOPS, TOUR, run_in_one_shell(TOUR, tmp_path))
    for line in TOUR:
        for target in re.findall(r"(?:--plot|--out|--apply|>) (\S+)", line):
            assert (tmp_path / target).exists(), line
    assert_samples(STOPS, TOUR, run_in_one_shell(TOUR, tmp_path))


def test_a_sample_is_compared_by_its_shape():
    table = (
        "  layer     held\n            out\n ─────────\n  hidden1   0.49\n  hidden2   0.51\n\nhidden1: 0.49 held out\n"
    )
    for sample in (
        table,
        "  layer   held\n  out\n ──\n  hidden1   -0.2\n",
        "…\n  hidden2   0.3\n\nhidden1: anything\n",
        "  hid…1   0.3\n  …\nhidden1:\n",
    ):
        assert re.search(sample_pattern(sample), table), sample
    for sample in (
        "  layer   score\n  out\n ──\n  hidden1   -0.2\n",  # another title
        "  hidden1   0.3\nhidden1:\n",  # a line is missing
        "  hidden2   0.3\n  …\n  hidden1   0.2\n  …\n  hidden2   0.1\n",  # another order
    ):
        assert not re.search(sample_pattern(sample), table), sample


def test_shell_completion_is_as_documented(tmp_path):
    (line,) = lines_of(README[README.index("**Shell completion**") :])
    printed(line, tmp_path, HOME=str(tmp_path))
    ask = "source ~/.bashrc; COMP_WORDS=(basiscli st); COMP_CWORD=1; _basiscli_completion basiscli"
    assert printed(ask + '; echo "${COMPREPLY[@]}"', tmp_path, HOME=str(tmp_path)).split() == ["study"]


OWN_RESNETS = "## 5. Match two of your own ResNets"


def run_program(text: str, folder: Path) -> str:
    """Run the one Python program of a text in a folder, and return it."""
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return program


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    """The program that writes activations of PyTorch networks, and every command after it; samples have the shape."""
    pytest.importorskip("torch")
    text = (ROOT / "docs/tutorial.md").read_text().partition(OWN_RESNETS)[0]
    program = run_program(text, tmp_path)
    lines, stops = lines_of(text[text.index(program) :]), samples_of(text)
    assert [line.split()[1] for line in lines] == ["show", "correlate", "correlate", "correlate"]
    outputs = run_in_one_shell(lines, tmp_path)
    assert_samples(stops, lines, outputs)
    assert len(stops) == len(lines) and (tmp_path / "mine.png").exists()


@pytest.mark.slow
def test_the_tutorial_on_own_resnets_runs(tmp_path):
    """The program that writes checkpoints of PyTorch networks, and every command that takes them in and out."""
    pytest.importorskip("torch")
    text = (ROOT / "docs/tutorial.md").read_text().partition(OWN_RESNETS)[2].partition("\n## ")[0]
    run_program(text, tmp_path)
    lines = lines_of(text)
    called = "import import correlate match interpolate merge export"
    assert " ".join(line.split()[1] for line in lines) == called
    run_in_one_shell(lines, tmp_path)
    for written in ("net1-matched.h5", "net-walk.png", "net-merged.safetensors", "net_merged.py"):
        assert (tmp_path / written).exists()


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
