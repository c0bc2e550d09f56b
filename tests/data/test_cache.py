import dataclasses
import errno
import gzip
import hashlib
import io
import shutil
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basiscli.data import cache as cache_module
from basiscli.data import fetch, folder, import_folder, load, locate, lookup
from basiscli.data.registry import Entry, cifar_files
from basiscli.errors import BadInput

NAMES = [file.name for file in lookup("digits").files]
RECORDS = {
    "data_batch_1.bin": bytes([1]) + bytes(range(256)) * 12 + bytes([9]) + bytes(3072),
    "test_batch.bin": bytes([0]) + b"\x07" * 3072 + bytes([2]) + b"\x08" * 3072,
}


def sha1(data: bytes) -> str:
    return f"sha1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


def everything(place) -> list[str]:
    """Return all files and folders below a place."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


@pytest.fixture
def digits(server, register):
    """The digits as a data set that is fetched from the server, `copy`."""
    for name, path in locate(lookup("digits")).items():
        server.files[name] = path.read_bytes()
    return register(dataclasses.replace(lookup("digits"), name="copy", addresses=(server.address,)))


def tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a .tar.gz of the members: bytes as a file, or a header as it is."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if info is not content:
                info.size = len(content)
            archive.addfile(info, None if info is content else io.BytesIO(content))
    return stream.getvalue()


ARCHIVE = tar({f"inside/{name}": data for name, data in RECORDS.items()} | {"inside/readme.html": b"not wanted"})


def colours(archive: bytes, **changes) -> Entry:
    """Return a data set of two CIFAR files in an archive."""
    files = [
        *cifar_files("train", 2, (10,), {"data_batch_1.bin": sha1(RECORDS["data_batch_1.bin"])}),
        *cifar_files("test", 2, (10,), {"test_batch.bin": sha1(RECORDS["test_batch.bin"])}),
    ]
    values = {
        "name": "colours",
        "files": tuple(files),
        "shape": (32, 32, 3),
        "train": 2,
        "test": 2,
        "archive": ("colours.tar.gz", sha1(archive)),
        "inside": "inside",
        "addresses": ("http://127.0.0.1:9/",),
    }
    return dataclasses.replace(lookup("cifar10"), **values | changes)


def test_folder_is_the_environments_or_the_platforms(monkeypatch):
    monkeypatch.setenv("BASISCLI_DATA", "~/pictures")
    assert folder().is_absolute()
    assert folder().name == "pictures"
    monkeypatch.delenv("BASISCLI_DATA")
    assert "basiscli" in str(folder())


# Fetching files


def test_fetch_puts_files_in_place(server, digits, cache):
    heard = []
    placed = fetch("copy", lambda *news: heard.append(news))
    assert [(result.file, result.status, result.official) for result in placed] == [
        (name, "fetched", True) for name in NAMES
    ]
    assert all(result.path.is_file() for result in placed)
    assert everything(cache) == ["copy", *sorted(f"copy/{name}" for name in NAMES)]
    assert placed[0].path.stat().st_mode & 0o777 == 0o644
    assert load("copy").checksum == load("digits").checksum
    for name in NAMES:
        counts = [done for file, done, total in heard if file == name]
        assert counts == sorted(counts)
        assert counts[-1] == len(server.files[name])
    assert {total for file, _, total in heard if file == NAMES[0]} == {len(server.files[NAMES[0]])}


def test_fetch_again_asks_for_nothing(server, digits, cache):
    fetch("copy")
    server.requested.clear()
    assert [result.status for result in fetch("copy")] == ["kept"] * 4
    assert server.requested == []


def test_fetch_gets_what_is_missing_or_damaged(server, digits, cache):
    fetch("copy")
    (cache / "copy" / NAMES[1]).unlink()
    damaged = cache / "copy" / NAMES[2]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    server.requested.clear()
    assert [result.status for result in fetch("copy")] == ["kept", "fetched", "fetched", "kept"]
    assert server.requested == [NAMES[1], NAMES[2]]
    assert load("copy").checksum == load("digits").checksum


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (404, "the server answered 404 Not Found"),
        ("wrong", f"its checksum is not {lookup('digits').files[0].checksum}"),
        ("cut", "the connection failed or broke off"),
    ],
)
def test_failed_fetch_leaves_nothing_behind(server, digits, cache, fault, message):
    server.faults[NAMES[0]] = fault
    with pytest.raises(BadInput) as caught:
        fetch("copy")
    assert f"{server.address}{NAMES[0]}: {message}" in str(caught.value)
    assert "`basiscli data fetch copy`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


def test_fetch_goes_on_after_a_broken_connection(server, digits, cache):
    server.faults[NAMES[2]] = "cut"
    with pytest.raises(BadInput, match="broke off"):
        fetch("copy")
    assert everything(cache / "copy") == sorted(NAMES[:2])
    server.faults.clear()
    server.requested.clear()
    assert [result.status for result in fetch("copy")] == ["kept", "kept", "fetched", "fetched"]
    assert server.requested == NAMES[2:]


def test_fetch_tries_the_next_address(server, digits, cache, register):
    for name in NAMES:
        server.files[f"mirror/{name}"] = server.files[name]
        server.faults[name] = "wrong"
    register(dataclasses.replace(digits, addresses=(server.address, f"{server.address}mirror/")))
    assert [result.status for result in fetch("copy")] == ["fetched"] * 4


def test_a_server_that_is_not_there_is_one_line(cache, register, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    register(dataclasses.replace(lookup("digits"), name="copy", addresses=("http://127.0.0.1:9/",)))
    with pytest.raises(BadInput, match=r"^http://127\.0\.0\.1:9/train-images-idx3-ubyte\.gz: the connection failed"):
        fetch("copy")
    assert not cache.exists()


def test_interrupted_fetch_leaves_nothing_behind(digits, cache):
    def interrupt(*news):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("copy", interrupt)
    assert not cache.exists()


def test_an_empty_folder_that_was_there_stays(server, digits, cache):
    cache.mkdir()
    server.faults[NAMES[0]] = 404
    with pytest.raises(BadInput):
        fetch("copy")
    assert everything(cache) == []


def test_fetch_into_a_folder_that_cannot_be_written(digits, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BASISCLI_DATA", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="Not a directory; set BASISCLI_DATA to a folder that you can write"):
        fetch("copy")
    with pytest.raises(BadInput, match="set BASISCLI_DATA"):
        import_folder("copy", locate(lookup("digits"))[NAMES[0]].parent)
    assert everything(tmp_path) == ["file"]


def test_bundled_data_is_there_to_be_fetched(cache):
    assert [(result.status, result.official) for result in fetch("digits")] == [("kept", True)] * 4
    assert not cache.exists()


# Fetching an archive


def test_fetch_unpacks_an_archive_and_removes_it(server, cache, register):
    server.files["colours.tar.gz"] = ARCHIVE
    register(colours(ARCHIVE, addresses=(server.address,)))
    assert [result.status for result in fetch("colours")] == ["fetched", "fetched"]
    assert everything(cache / "colours") == ["inside", "inside/data_batch_1.bin", "inside/test_batch.bin"]
    dataset = load("colours")
    assert dataset.train.labels.tolist() == [1, 9]
    assert dataset.test.images[1, 0, 0].tolist() == [8, 8, 8]


def test_fetch_uses_an_archive_that_lies_there_and_leaves_it(cache, register):
    register(colours(ARCHIVE))
    (cache / "colours").mkdir(parents=True)
    (cache / "colours" / "colours.tar.gz").write_bytes(ARCHIVE)
    assert [result.official for result in fetch("colours")] == [True, True]
    assert "colours.tar.gz" in everything(cache / "colours")


def test_fetch_goes_on_when_unpacking_broke_off(server, cache, register, monkeypatch):
    server.files["colours.tar.gz"] = ARCHIVE
    register(colours(ARCHIVE, addresses=(server.address,)))

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.shutil, "copyfileobj", full)
        with pytest.raises(BadInput, match="No space left on device"):
            fetch("colours")
    assert everything(cache / "colours") == ["colours.tar.gz"]
    server.requested.clear()
    fetch("colours")
    assert server.requested == []
    assert load("colours").classes == 10


@pytest.mark.parametrize("place", ["colours/inside", "colours", "inside"])
def test_cifar_files_are_found_in_three_places(cache, register, place):
    register(colours(ARCHIVE))
    (cache / place).mkdir(parents=True)
    for name, data in RECORDS.items():
        (cache / place / name).write_bytes(data)
    assert load("colours").train.labels.tolist() == [1, 9]
    assert {result.status for result in fetch("colours")} == {"kept"}


def test_batches_are_joined_in_order(cache, register):
    batches = {f"data_batch_{number}.bin": bytes([number]) + bytes([number]) * 3072 for number in (1, 2, 3)}
    sums = {name: sha1(data) for name, data in batches.items()}
    files = cifar_files("train", 1, (10,), sums) + cifar_files("test", 2, (10,), {"test_batch.bin": "sha1:0"})
    register(colours(ARCHIVE, files=files))
    (cache / "colours").mkdir(parents=True)
    for name, data in (batches | {"test_batch.bin": RECORDS["test_batch.bin"]}).items():
        (cache / "colours" / name).write_bytes(data)
    dataset = load("colours")
    assert dataset.train.labels.tolist() == [1, 2, 3]
    assert dataset.train.images[:, 5, 5, 1].tolist() == [1, 2, 3]


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"data_batch_1.bin": RECORDS["data_batch_1.bin"]}, "no inside/data_batch_1.bin, inside/test_batch.bin in it"),
        ({"inside/../inside/data_batch_1.bin": RECORDS["data_batch_1.bin"]}, "no inside/data_batch_1.bin"),
        ({"inside/data_batch_1.bin": b"short"}, "inside/data_batch_1.bin is not a file of 6,146 bytes"),
        ({"inside/data_batch_1.bin": bytes(6147)}, "inside/data_batch_1.bin is not a file of 6,146 bytes"),
        ({"inside/data_batch_1.bin": link(tarfile.SYMTYPE, "/etc/passwd")}, "is not a file"),
        ({"inside/data_batch_1.bin": link(tarfile.LNKTYPE, "../../secret")}, "is not a file"),
        (
            {f"inside/{name}": b"\x63" * 6146 for name in RECORDS},
            "colours.tar.gz: data_batch_1.bin: label 99 of image 0",
        ),
    ],
)
def test_bad_archive_is_refused(tmp_path, cache, register, members, message):
    register(colours(ARCHIVE))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colours.tar.gz").write_bytes(tar(members))
    with pytest.raises(BadInput, match=message):
        import_folder("colours", tmp_path / "mine")
    assert everything(tmp_path) == ["mine", "mine/colours.tar.gz"]


def test_archive_cannot_write_elsewhere(tmp_path, cache, register):
    members = {f"inside/{name}": data for name, data in RECORDS.items()}
    archive = tar({"../outside": b"x", str(tmp_path / "absolute"): b"x"} | members)
    register(colours(archive))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colours.tar.gz").write_bytes(archive)
    import_folder("colours", tmp_path / "mine")
    assert not (tmp_path / "absolute").exists()
    assert not list(tmp_path.rglob("outside"))


@given(data=st.data())
def test_damaged_archive_is_refused_or_unpacked_right(tmp_path_factory, damaged, data):
    work = tmp_path_factory.getbasetemp() / "damaged-tar"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    whole = gzip.decompress(ARCHIVE)
    broken = data.draw(damaged(ARCHIVE) | damaged(whole).map(gzip.compress))
    (work / "colours.tar.gz").write_bytes(broken)
    entry = colours(ARCHIVE)
    (work / "out").mkdir()
    try:
        found = cache_module._unpack(work / "colours.tar.gz", entry, entry.files, work / "out")
    except BadInput:
        return
    finally:
        assert {path.name for path in work.rglob("*")} <= {"out", "colours.tar.gz", *RECORDS}
    for file in entry.files:
        assert file.read(found[file.name])[f"{'test' if 'test' in file.name else 'train'}/labels"].shape == (2,)


# Importing


@pytest.fixture
def mine(tmp_path):
    """A folder with the user's own copies of the digits."""
    (tmp_path / "mine").mkdir()
    for path in locate(lookup("digits")).values():
        shutil.copy(path, tmp_path / "mine")
    return tmp_path / "mine"


def unpack(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def test_import_copies_what_reads_right(digits, cache, mine):
    unpack(mine / NAMES[0])
    before = everything(mine)
    placed = import_folder("copy", mine)
    assert [(result.status, result.official) for result in placed] == [("imported", True)] * 4
    assert everything(cache) == ["copy", *sorted(f"copy/{name}" for name in NAMES)]
    assert everything(mine) == before
    assert load("copy").checksum == load("digits").checksum


@pytest.mark.parametrize("place", ["", "copy"])
def test_plain_files_are_read_where_the_cache_has_them(digits, cache, mine, place):
    for name in NAMES:
        unpack(mine / name)
    shutil.copytree(mine, cache / "copy")
    assert load("copy").checksum == load("digits").checksum
    assert {result.status for result in fetch("copy")} == {"kept"}


def test_import_says_when_a_checksum_differs(digits, cache, mine):
    content = bytearray(gzip.decompress((mine / NAMES[0]).read_bytes()))
    content[-1] ^= 1
    (mine / NAMES[0]).write_bytes(gzip.compress(content))
    assert [result.official for result in import_folder("copy", mine)] == [False, True, True, True]
    assert load("copy").checksum != load("digits").checksum


def test_import_cannot_tell_whether_an_unpacked_file_is_official(digits, cache, mine, register):
    released = [f"md5:{hashlib.md5((mine / name).read_bytes(), usedforsecurity=False).hexdigest()}" for name in NAMES]
    files = [
        dataclasses.replace(file, checksum=checksum, packed=True)
        for file, checksum in zip(digits.files, released, strict=True)
    ]
    register(dataclasses.replace(digits, files=tuple(files)))
    unpack(mine / NAMES[0])
    (mine / NAMES[1]).write_bytes(gzip.compress(gzip.decompress((mine / NAMES[1]).read_bytes()), 1, mtime=1))
    assert [result.official for result in import_folder("copy", mine)] == [None, False, True, True]


def test_import_replaces_only_by_force(digits, cache, mine):
    import_folder("copy", mine)
    assert [result.status for result in import_folder("copy", mine)] == ["kept"] * 4
    labels = bytearray(gzip.decompress((mine / NAMES[3]).read_bytes()))
    labels[-1] = (labels[-1] + 1) % 10
    (mine / NAMES[3]).write_bytes(gzip.compress(labels))
    with pytest.raises(BadInput, match=f"copy/{NAMES[3]}: there already, and other than the one in .*`force`"):
        import_folder("copy", mine)
    assert load("copy").checksum == load("digits").checksum
    placed = import_folder("copy", mine, force=True)
    assert [result.status for result in placed] == ["kept", "kept", "kept", "imported"]
    assert load("copy").test.labels[-1] == labels[-1]


def test_import_writes_nothing_unless_all_is_right(digits, cache, mine):
    last = mine / NAMES[3]
    last.write_bytes(last.read_bytes()[:-3])
    with pytest.raises(BadInput, match=f"^{last}: damaged or cut short"):
        import_folder("copy", mine)
    last.unlink()
    with pytest.raises(BadInput, match=f"^{mine}: no {NAMES[3]} in it"):
        import_folder("copy", mine)
    assert not cache.exists()


def test_import_on_a_full_disk_leaves_nothing_behind(digits, cache, mine, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        import_folder("copy", mine)
    assert not cache.exists()


def test_import_from_an_archive(tmp_path, cache, register):
    register(colours(ARCHIVE))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colours.tar.gz").write_bytes(ARCHIVE)
    assert [(result.status, result.official) for result in import_folder("colours", tmp_path / "mine")] == [
        ("imported", True),
        ("imported", True),
    ]
    assert everything(cache / "colours") == ["inside", "inside/data_batch_1.bin", "inside/test_batch.bin"]
    np.testing.assert_array_equal(load("colours").train.labels, [1, 9])


def test_import_of_what_cannot_be(digits, cache, tmp_path):
    with pytest.raises(BadInput, match="digits is bundled"):
        import_folder("digits", tmp_path)
    with pytest.raises(BadInput, match="absent: not a folder"):
        import_folder("copy", tmp_path / "absent")
    with pytest.raises(BadInput, match=r"^mnst: no such data set; there are digits, mnist"):
        import_folder("mnst", tmp_path)
    with pytest.raises(BadInput, match=r"^mnst: no such data set"):
        fetch("mnst")
    assert not cache.exists()
