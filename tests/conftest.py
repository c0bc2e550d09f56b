"""What all tests share: the command line in this process, and a few trained networks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulation import fake
from tests.helpers.command_line import Outcome, call


@pytest.fixture(scope="session")
def basiscli() -> Callable[..., Outcome]:
    """The command line, as a function of its arguments."""
    return call


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> list[Path]:
    """Three small digits networks, trained for one epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("networks")
    done = call("train", "--seeds", 3, "--epochs", 1, "--width", 24, "--depth", 2, "--out", folder)
    assert done.code == 0, done.stderr
    return [Path(record["path"]) for record in done.records]


@pytest.fixture(scope="module")
def device():
    """The fake GPU of tests/emulation, in the place of cupy."""
    with fake.installed() as fake_gpu:
        yield fake_gpu


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache folder of data sets, which does not exist yet."""
    monkeypatch.setenv("BASISCLI_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"
