"""Metadata and packages; kernels/ and data/ live at the top level and install as basiscli.kernels and basiscli.data."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "basiscli/__init__.py").read_text())[1]


def moved(folder: str) -> list[str]:
    """Return the packages of a folder at the top level that installs below basiscli."""
    return [f"basiscli.{name}" for name in (folder, *(f"{folder}.{inner}" for inner in find_packages(folder)))]


setup(
    name="basiscli",
    version=VERSION,
    description="Does a network's representation have a privileged basis, and do seeds converge to the same one?",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE", "data/digits/LICENSE.txt"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["basiscli", "basiscli.*"]), *moved("kernels"), *moved("data")],
    package_dir={"basiscli.kernels": "kernels", "basiscli.data": "data"},
    package_data={
        "basiscli": ["py.typed"],
        "basiscli.study": ["plans/*.toml", "report.css"],
        "basiscli.data": ["digits/*"],
        "basiscli.kernels": ["cuda/*"],
    },
    install_requires=[
        "click>=8.1",
        "h5py>=3.10",
        "matplotlib>=3.8",
        "numba>=0.61",
        "numpy>=1.26",
        "platformdirs>=3",
        "pooch>=1.8",
        "rich>=13",
        "safetensors>=0.4.3",
        "scipy>=1.11",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "cluster": ["distributed>=2024.8"],
        "cuda": ["cupy-cuda13x[ctk]>=14"],
        "cuda12": ["cupy-cuda12x[ctk]>=14"],
        "test": [
            # Imports without a driver: the tests compare it with what stands for it.
            "cupy-cuda13x>=14; platform_system == 'Linux'",
            "distributed>=2024.8",
            "hypothesis>=6.100",
            "ipykernel>=6.29",
            "mypy>=1.11",
            "nbclient>=0.10",
            # Compiles the CUDA kernels where there is no card.
            "nvidia-cuda-nvrtc>=13; platform_system == 'Linux'",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            # Builds the archives whose files a test counts.
            "setuptools>=77,<85",
            # Finds the lowest versions that are declared (.ci/run).
            "uv>=0.5",
        ],
        "bench": ["torch>=2.4", "jax>=0.4.30"],
    },
    entry_points={"console_scripts": ["basiscli = basiscli.cli.group:main"]},
)
