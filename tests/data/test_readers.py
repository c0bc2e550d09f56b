import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basiscli.data import KEYS, from_arrays, load
from basiscli.data.readers import read_cifar, read_idx, read_idx_labels, read_npz
from basiscli.errors import BadInput

SHAPE = (5, 3, 2)
PIXELS = bytes(range(30))
IDX = struct.pack(">4B3I", 0, 0, 8, 3, *SHAPE) + PIXELS
ARRAYS = {
    "train/images": np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4),
    "train/labels": np.array([0, 1, 2]),
    "test/images": np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4),
    "test/labels": np.array([2, 0]),
}


def npz(arrays: dict, save=np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def stored(tmp_path, data: bytes, name: str):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refused(read, *arguments) -> str:
    """Return the message of the BadInput that a call must raise: one line that begins with the file."""
    with pytest.raises(BadInput) as caught:
        read(*arguments)
    message = str(caught.value)
    assert message.startswith(str(arguments[0]))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx_is_read_plain_and_compressed(tmp_path, name):
    data = gzip.compress(IDX) if name.endswith(".gz") else IDX
    images = read_idx(stored(tmp_path, data, name), SHAPE)
    np.testing.assert_array_equal(images, np.arange(30, dtype=np.uint8).reshape(SHAPE))
    assert images.flags.writeable


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file of bytes with 3 axes"),
        (b"\0\0\x0d\x03" + IDX[4:], "not an IDX file of bytes with 3 axes .it starts with 00 00 0d 03"),
        (IDX[:10], "cut short, 0 of 30 bytes"),
        (IDX[:-1], "cut short, 29 of 30 bytes"),
        (IDX + b"\0", "left over after the 30 bytes"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 5, 2, 3) + PIXELS, "declares 5 x 2 x 3 values, but this file has 5 x 3 x 2"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2) + PIXELS, "declares 4,294,967,295 x"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_idx_is_refused(tmp_path, data, message, packed):
    path = stored(tmp_path, gzip.compress(data), "i.gz") if packed else stored(tmp_path, data, "i")
    with pytest.raises(BadInput, match=message):
        read_idx(path, SHAPE)


def test_damaged_gzip_is_refused(tmp_path):
    packed = gzip.compress(IDX)
    for data in (packed[:-4], packed + b"x", b"x" + packed, packed[:12] + b"\xff\xff" + packed[14:]):
        assert "damaged or cut short" in refused(read_idx, stored(tmp_path, data, "i.gz"), SHAPE)


def test_missing_file_is_one_line(tmp_path):
    assert "No such file" in refused(read_idx, tmp_path / "absent", SHAPE)
    assert "No such file" in refused(read_npz, tmp_path / "absent.npz")


def test_idx_label_out_of_range_is_refused(tmp_path):
    path = stored(tmp_path, struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes([0, 2, 3, 1]), "labels")
    assert read_idx_labels(path, 4, 4).tolist() == [0, 2, 3, 1]
    assert "label 3 of image 2 is out of range (0 to 2)" in refused(read_idx_labels, path, 4, 3)


@given(data=st.data())
def test_damaged_idx_is_refused_or_read_right(tmp_path_factory, damaged, data):
    path = stored(tmp_path_factory.getbasetemp(), data.draw(damaged(IDX)), "damaged-idx")
    try:
        images = read_idx(path, SHAPE)
    except BadInput:
        return
    assert path.read_bytes() == IDX[:16] + images.tobytes()


@given(data=st.data())
def test_damaged_compressed_idx_is_refused_or_read_right(tmp_path_factory, damaged, data):
    path = stored(tmp_path_factory.getbasetemp(), data.draw(damaged(gzip.compress(IDX))), "damaged-idx.gz")
    try:
        images = read_idx(path, SHAPE)
    except BadInput:
        return
    assert images.tobytes() == PIXELS


def test_cifar_planes_become_channels(tmp_path):
    planes = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    planes[0, :, 4, 7] = 10, 20, 30  # red, green, blue of the pixel in row 4, column 7
    data = b"".join(bytes([label]) + image.tobytes() for label, image in zip((7, 3), planes, strict=True))
    images, labels = read_cifar(stored(tmp_path, data, "batch.bin"), 2, (10,))
    assert images.shape == (2, 32, 32, 3)
    assert images[0, 4, 7].tolist() == [10, 20, 30]
    np.testing.assert_array_equal(images[1, :, :, 2], planes[1, 2])
    assert labels.tolist() == [7, 3]


def test_cifar100_has_its_fine_labels(tmp_path):
    data = b"".join(bytes([coarse, fine]) + bytes(3072) for coarse, fine in [(19, 99), (0, 5)])
    assert read_cifar(stored(tmp_path, data, "train.bin"), 2, (20, 100))[1].tolist() == [99, 5]
    assert "label 19 of image 0 is out of range (0 to 18)" in refused(read_cifar, tmp_path / "train.bin", 2, (19, 100))
    assert "label 99 of image 0 is out of range (0 to 98)" in refused(read_cifar, tmp_path / "train.bin", 2, (20, 99))


@pytest.mark.parametrize(("length", "message"), [(0, "cut short"), (3073, "cut short"), (6147, "left over")])
def test_cifar_of_another_length_is_refused(tmp_path, length, message):
    assert message in refused(read_cifar, stored(tmp_path, bytes(length), "batch.bin"), 2, (10,))


@given(data=st.data())
def test_damaged_cifar_is_refused_or_read_right(tmp_path_factory, damaged, data):
    path = stored(tmp_path_factory.getbasetemp(), data.draw(damaged(bytes(2 * 3073))), "damaged.bin")
    try:
        images, labels = read_cifar(path, 2, (10,))
    except BadInput:
        return
    planes = images.transpose(0, 3, 1, 2)
    again = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, planes, strict=True))
    assert again == path.read_bytes()
    assert labels.max() < 10


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_as_numpy_wrote_it(tmp_path, save):
    arrays = ARRAYS | {"note": np.array(["text that nobody reads"], object)}
    path = stored(tmp_path, npz(arrays, save), "mine.npz")
    found = read_npz(path)
    assert set(found) == set(KEYS)
    for key, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[key])
    assert load(path).checksum == from_arrays("mine", ARRAYS).checksum
    assert load(str(path)).classes == 3


def test_npz_in_fortran_order_and_big_endian(tmp_path):
    images = np.asfortranarray(ARRAYS["train/images"].astype(">f8"))
    arrays = ARRAYS | {"train/images": images, "test/images": ARRAYS["test/images"].astype(">f4")}
    dataset = load(stored(tmp_path, npz(arrays), "mine.npz"))
    np.testing.assert_array_equal(dataset.train.images[..., 0], ARRAYS["train/images"])
    assert dataset.train.images.dtype == np.dtype("=f4")
    assert dataset.train.images.flags.c_contiguous


def test_npz_without_an_array_says_what_it_holds(tmp_path):
    arrays = {"x_train": ARRAYS["train/images"], "y_train": ARRAYS["train/labels"]}
    message = refused(read_npz, stored(tmp_path, npz(arrays), "mine.npz"))
    assert "no array 'train/images'" in message
    assert "holds 'x_train', 'y_train'" in message


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}, [], print], object),
        np.array(["a", "b", "c"]),
        np.array([b"a", b"b", b"c"]),
        np.array([1j, 2j, 3j]),
        np.zeros(3, "M8[s]"),
        np.zeros(3, [("label", "i4")]),
    ],
)
def test_npz_of_anything_but_numbers_is_refused(tmp_path, array):
    path = stored(tmp_path, npz(ARRAYS | {"train/labels": array}), "mine.npz")
    assert "train/labels holds" in refused(read_npz, path)


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_npz_is_never_unpickled(tmp_path):
    path = stored(tmp_path, npz(ARRAYS | {"test/images": np.array([Trap(tmp_path / "sprung")], object)}), "trap.npz")
    refused(read_npz, path)
    assert not (tmp_path / "sprung").exists()


def rewritten(arrays: dict, key: str, member: bytes, method=zipfile.ZIP_STORED) -> bytes:
    """Return an .npz with the bytes of one member replaced."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", member if name == key else content.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (10**9, 10**9)}", "not a readable"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 3)}", "does not fit its bytes"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -8)}", "does not fit its bytes"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 5)}", "does not fit its bytes"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (16,)}", "not numbers"),
        ("(" * 5000, "not a readable"),
        ("{'descr': '\\d', 'shape': 3}", "not a readable"),
    ],
)
def test_npz_header_is_held_against_the_bytes(tmp_path, header, message):
    text = header.encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)
    path = stored(tmp_path, rewritten(ARRAYS, "test/labels", member), "odd.npz")
    assert message in refused(read_npz, path)


def test_npz_that_declares_more_bytes_than_there_are_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 30, 30)})
    path = stored(tmp_path, npz(ARRAYS), "lying.npz")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in KEYS:
            archive.writestr(f"{key}.npy", header.getvalue() + bytes(16))
            archive.getinfo(f"{key}.npy").file_size = len(header.getvalue()) + 900_000
    assert "damaged or cut short" in refused(read_npz, path)


def test_encrypted_npz_is_refused(tmp_path):
    data = npz(ARRAYS)
    central = data.index(b"PK\x01\x02")
    data = data[: central + 8] + bytes([data[central + 8] | 1]) + data[central + 9 :]
    local = data[:6] + bytes([data[6] | 1]) + data[7:]
    assert "damaged or cut short" in refused(read_npz, stored(tmp_path, local, "secret.npz"))


def test_npz_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    arrays = ARRAYS | {"train/images": np.zeros((70, 1024, 1024), np.uint8)}
    path = stored(tmp_path, npz(arrays, np.savez_compressed), "bomb.npz")
    assert "over 100 times its size" in refused(read_npz, path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@given(data=st.data())
def test_damaged_npz_is_refused_or_read_right(tmp_path_factory, damaged, save, data):
    path = stored(tmp_path_factory.getbasetemp(), data.draw(damaged(npz(ARRAYS, save))), "damaged.npz")
    try:
        dataset = load(path)
    except BadInput as error:
        assert str(path) in str(error)
        return
    # Every member has a CRC-32: whatever is still read must be what was written.
    assert dataset.checksum == from_arrays("mine", ARRAYS).checksum


@given(data=st.data())
def test_damaged_array_in_a_sound_archive_is_refused_or_valid(tmp_path_factory, damaged, data):
    content = io.BytesIO()
    np.save(content, ARRAYS["train/images"])
    archive = rewritten(ARRAYS, "train/images", data.draw(damaged(content.getvalue())))
    path = stored(tmp_path_factory.getbasetemp(), archive, "damaged-array.npz")
    try:
        dataset = load(path)
    except BadInput:
        return
    assert dataset.train.images.shape == (3, 4, 4, 1)
    assert dataset.train.images.dtype == np.uint8
