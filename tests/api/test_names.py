"""What `import basiscli` offers: lazy, documented, typed, and every example runs."""

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import basiscli

ROOT = Path(__file__).parents[2]
FLAGS = doctest.NORMALIZE_WHITESPACE


def examples(thing: object, name: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(thing, name, globs={}) if test.examples]


@pytest.mark.parametrize("name", basiscli.__all__)
def test_every_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = examples(getattr(basiscli, name), name)
    assert found, f"{name} has no example"
    for test in found:
        assert not doctest.DocTestRunner(optionflags=FLAGS).run(test).failed


def test_the_session_of_the_package_runs():
    (test,) = doctest.DocTestFinder(recurse=False).find(basiscli, "basiscli")
    assert not doctest.DocTestRunner(optionflags=FLAGS).run(test).failed


@pytest.mark.parametrize("name", basiscli.__all__)
def test_every_public_method_is_documented_and_typed(name):
    thing = getattr(basiscli, name)
    members = [thing] if inspect.isfunction(thing) else []
    if inspect.isclass(thing):
        members = [getattr(thing, member) for member in dir(thing) if not member.startswith("_")]
    for member in members:
        if isinstance(member, property):
            member = member.fget
        if inspect.isfunction(member):
            assert inspect.getdoc(member), member
            parameters = list(inspect.signature(member).parameters.values())
            typed = [p.annotation is not p.empty for p in parameters if p.name != "self"]
            assert all(typed) and inspect.signature(member).return_annotation is not inspect.Signature.empty, member


def test_names_are_listed_and_others_are_refused():
    assert set(basiscli.__all__) < set(dir(basiscli))
    with pytest.raises(AttributeError, match="nothing"):
        basiscli.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from basiscli import nothing  # noqa: F401


def test_importing_is_quick():
    """Without a public name asked for, nothing but the package itself is imported."""
    code = "import sys; before = set(sys.modules); import basiscli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names] == [
        "basiscli"
    ]


def test_type_checkers_are_told_of_the_types():
    assert (Path(basiscli.__file__).parent / "py.typed").exists()
    assert '"py.typed"' in (ROOT / "setup.py").read_text()
