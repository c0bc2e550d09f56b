"""`basiscli doctor` and `basiscli selftest`: what is found, and that a wrong kernel is."""

import pytest

from basiscli import kernels
from basiscli.device import selftest
from basiscli.kernels import cpu


def test_doctor_on_a_host(basiscli):
    found = {record["what"]: record["found"] for record in basiscli("doctor").records}
    assert {"basiscli", "processor", "vectors", "memory", "numba", "BLAS", "GPU", "data sets", "kernels"} <= set(found)
    assert "GiB" in found["memory"] and "kept in" in found["compiled kernels"]


def test_doctor_on_a_card(basiscli, device):
    found = {record["what"]: record["found"] for record in basiscli("doctor").records}
    assert "a fake, compute capability 9.0" in found["GPU"] and found["precisions"] == "float32, tf32, bf16"
    assert found["kernels"].startswith("those of the GPU") and "driver 13.0" in found["CUDA"]


def test_every_kernel_is_checked():
    assert sorted(check.name for check in selftest.checks(selftest.SMALL)) == sorted(cpu.__all__)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_kernels_of_a_device_are_right(basiscli, device, precision):
    done = basiscli("selftest", "--quick", "--device", "cuda", "--precision", precision)
    assert done.code == 0, done.stderr
    assert len(done.records) == len(cpu.__all__) and all(record["ok"] for record in done.records)


def test_times_beside_what_the_machine_reaches(basiscli, monkeypatch):
    monkeypatch.setattr(selftest, "TIMED", {"cpu": selftest.Size(1, 8, 8, 16, 1000)})
    monkeypatch.setattr(selftest, "SECONDS", 0)
    done = basiscli("selftest", "--device", "cpu")
    assert done.code == 0, done.stderr
    copy, product, *rest = done.records
    assert copy["gb_s"] > 0 and product["gflop_s"] > 0
    assert all(record["ok"] and record["milliseconds"] > 0 and record["of_copy"] > 0 for record in rest)
    assert {record["kernel"] for record in rest if record["gflop_s"]} == set(selftest.PRODUCTS)


def test_a_wrong_kernel_is_found(basiscli, monkeypatch):
    right = cpu.unit_sums
    monkeypatch.setattr(cpu, "unit_sums", lambda dy, out=None: right(dy, out) * 1.001)
    done = basiscli("selftest", "--quick", "--device", "cpu")
    assert done.code == 1 and "1 of" in done.stderr and "unit_sums" in done.stderr
    assert [record["kernel"] for record in done.records if not record["ok"]] == ["unit_sums"]


def test_an_argument_that_should_not_change_is_found(monkeypatch):
    def changes(x):
        y = kernels.reference.relu(x)
        x[...] = 0
        return y

    monkeypatch.setattr(cpu, "relu", changes)
    found = {record["kernel"]: record["ok"] for record in selftest.check_kernels(timed=False)}
    assert not found["relu"] and found["gelu"]
