"""What tests of files share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(networks, tmp_path) -> Path:
    """A network file that a test may damage."""
    return Path(shutil.copy(networks[0], tmp_path / "copy.h5"))
