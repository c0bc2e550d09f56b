"""Every CUDA source compiles for real cards, without a warning, and its kernels fit their registers."""

import re

import pytest

from tests.emulation import fake, nvrtc

pytestmark = pytest.mark.slow
# Ampere, Ada, Hopper and Blackwell. On all but two of them one precision of the convolutions stands for the others.
ARCHITECTURES = {
    "sm_80": ("float32", "tf32", "bf16"),
    "sm_86": ("bf16",),
    "sm_89": ("float32",),
    "sm_90": ("float32", "tf32", "bf16"),
    "sm_100": ("tf32",),
    "sm_120": ("bf16",),
}
# Bytes that a kernel may spill from registers into memory: three spill up to five of 128 registers.
SPILLED = 32
# A block may have 48 KB of shared memory without asking for more, which no card's 99 KB or 227 KB then bound.
SHARED = 48 << 10
# What ptxas says of a kernel: its name, the bytes that it spills, its registers; and, of some, their shared memory.
REPORT = re.compile(r"Function properties for (\w+)\s.*?(\d+) bytes spill stores.*?Used (\d+) registers", re.S)
SHARED_REPORT = re.compile(r"(\d+) bytes smem")


def sources():
    """Yield an architecture, a family of kernels, its text and the options for a precision."""
    with fake.installed():
        from basiscli.kernels import device

        for architecture, precisions in ARCHITECTURES.items():
            for family in device.FAMILIES:
                for precision in precisions if family == "convolution" else ("float32",):
                    text, options = device.source(family), device.options(precision)
                    yield pytest.param(architecture, family, text, options, id=f"{architecture}-{family}-{precision}")


@pytest.mark.parametrize("architecture, family, source, options", list(sources()))
def test_it_compiles(architecture, family, source, options, request):
    told = (*options, *nvrtc.of_cupy(architecture), "--ptxas-options=-v", "-Werror=all-warnings")
    log = nvrtc.compiled(source, told)
    assert "warning" not in log
    report = REPORT.findall(log)
    lines = [f"{name}: {registers} registers, {spilled} bytes spilled" for name, spilled, registers in report]
    # Kept in .pytest_cache/v/cuda.
    request.config.cache.set(f"cuda/{architecture}/{family}/{options[-1]}", lines)
    assert report, log
    for name, spilled, registers in report:
        assert int(spilled) <= SPILLED and int(registers) <= 255, f"{family}, {architecture}: {name}\n{log}"
    assert all(int(size) <= SHARED for size in SHARED_REPORT.findall(log)), log


@pytest.mark.parametrize("name", ["normalise", "sum_products", "normalise_gradient"])
def test_the_mask_of_a_gradient_is_that_of_the_forward_pass(name):
    """y = factor x + offset is fused in every kernel that finds out whether y > 0, whatever the compiler would like."""
    with fake.installed():
        from basiscli.kernels import device

        text, options = device.source("normalisation"), device.options("float32")
    code = nvrtc.assembly(text, (*options, "-arch=compute_80", "--fmad=false"))
    body = code.partition(f".entry {name}(")[2].partition(".entry")[0]
    assert body.count("fma.rn.f32") >= 2, "the offset and y"
