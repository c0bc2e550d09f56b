"""The named data sets: their sources, the contents and checksums of their files, their licences.

A checksum is `algorithm:hex`. The MD5 sums are published by the sources or long in common use. The SHA-1 sums belong to
the members of CIFAR's archives. Where it is known, the checksum is of the unpacked bytes, so it stays the same if a
file is compressed again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from basiscli.data.readers import PIXELS, read_cifar, read_idx, read_idx_labels
from basiscli.errors import BadInput, suggestion


@dataclass(frozen=True)
class File:
    """One file of a data set.

    read: returns the arrays of the file, by key, or raises BadInput. size: the number of unpacked bytes. checksum: of
    the unpacked bytes; if `packed`, of the .gz file as its source distributes it.
    """

    name: str
    read: Callable[[Path], dict[str, np.ndarray]]
    size: int
    checksum: str
    packed: bool = False


@dataclass(frozen=True)
class Entry:
    """A data set: its numbers of images, their shape (H, W, C), its files and their sources.

    The files lie under `addresses`, which are tried in order. If an `archive` (name, checksum) is given, the addresses
    have the archive, and the files lie in its folder `inside`. An entry without addresses is bundled with the package.
    """

    name: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    files: tuple[File, ...]
    source: str
    licence: str
    citation: str
    addresses: tuple[str, ...] = ()
    archive: tuple[str, str] | None = None
    inside: str = ""

    @property
    def bundled(self) -> bool:
        return not self.addresses


def lookup(name: str) -> Entry:
    """Return the entry of a name. Raises BadInput with all names if the name is unknown."""
    if name not in ENTRIES:
        raise BadInput(f"{name}: no such data set; there are {', '.join(ENTRIES)}{suggestion(name, ENTRIES)}")
    return ENTRIES[name]


def idx_files(
    train: int, test: int, size: int, classes: int, checksums: Sequence[str], packed: bool = False
) -> tuple[File, ...]:
    """Return the four IDX files of square grey images. The checksums are in the order of the files below."""

    def images(split: str, path: Path, count: int) -> dict[str, np.ndarray]:
        return {f"{split}/images": read_idx(path, (count, size, size))}

    def labels(split: str, path: Path, count: int) -> dict[str, np.ndarray]:
        return {f"{split}/labels": read_idx_labels(path, count, classes)}

    files = (
        ("train-images-idx3-ubyte.gz", partial(images, "train", count=train), 16 + train * size * size),
        ("train-labels-idx1-ubyte.gz", partial(labels, "train", count=train), 8 + train),
        ("t10k-images-idx3-ubyte.gz", partial(images, "test", count=test), 16 + test * size * size),
        ("t10k-labels-idx1-ubyte.gz", partial(labels, "test", count=test), 8 + test),
    )
    return tuple(File(*file, checksum, packed) for file, checksum in zip(files, checksums, strict=True))


def cifar_files(split: str, count: int, classes: Sequence[int], checksums: Mapping[str, str]) -> tuple[File, ...]:
    """Return the CIFAR files of one split, each of `count` records, from their names and checksums."""

    def read(path: Path) -> dict[str, np.ndarray]:
        images, labels = read_cifar(path, count, classes)
        return {f"{split}/images": images, f"{split}/labels": labels}

    size = count * (len(classes) + int(np.prod(PIXELS)))
    return tuple(File(name, read, size, checksum) for name, checksum in checksums.items())


_ALL = (
    Entry(
        name="digits",
        train=1200,
        test=597,
        shape=(8, 8, 1),
        classes=10,
        files=idx_files(
            1200,
            597,
            8,
            10,
            checksums=(
                "md5:58e90d35f4b2cf6288c7990dcf5a6f14",
                "md5:2bb9747fab1a979762a7191fbee6c1d6",
                "md5:f1b8d05f0b0e43e646d6978abc13e26b",
                "md5:cf55647613f6eeb538fca52f417a32bf",
            ),
        ),
        source="https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
        citation="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998",
    ),
    Entry(
        name="mnist",
        train=60_000,
        test=10_000,
        shape=(28, 28, 1),
        classes=10,
        files=idx_files(
            60_000,
            10_000,
            28,
            10,
            checksums=(
                "md5:6bbc9ace898e44ae57da46a324031adb",
                "md5:a25bea736e30d166cdddb491f175f624",
                "md5:2646ac647ad5339dbf082846283269ea",
                "md5:27ae3e4e09519cfbb04c329615203637",
            ),
        ),
        source="http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
        citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998",
        # The page of the authors often refuses downloads. The first address is a copy of the files that PyTorch keeps.
        addresses=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    ),
    Entry(
        name="fashion-mnist",
        train=60_000,
        test=10_000,
        shape=(28, 28, 1),
        classes=10,
        files=idx_files(
            60_000,
            10_000,
            28,
            10,
            checksums=(
                "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "md5:25c81989df183df01b3e8a0aad5dffbe",
                "md5:bef4ecab320f06d8554ea6380940ec79",
                "md5:bb300cfdad3c16e7a12a480ee83cd310",
            ),
            packed=True,
        ),
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv 1708.07747, 2017",
        addresses=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    Entry(
        name="kmnist",
        train=60_000,
        test=10_000,
        shape=(28, 28, 1),
        classes=10,
        files=idx_files(
            60_000,
            10_000,
            28,
            10,
            checksums=(
                "md5:bdb82020997e1d708af4cf47b453dcf7",
                "md5:e144d726b3acfaa3e44228e80efcd344",
                "md5:5c965bf0a639b31b8f53240b1b52f4d7",
                "md5:7320c461ea6c1c855c0b718fb2a4b134",
            ),
            packed=True,
        ),
        source="https://github.com/rois-codh/kmnist",
        licence="CC BY-SA 4.0",
        citation="Clanuwat et al.: Deep Learning for Classical Japanese Literature, arXiv 1812.01718, 2018",
        addresses=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
    Entry(
        name="cifar10",
        train=50_000,
        test=10_000,
        shape=(32, 32, 3),
        classes=10,
        files=cifar_files(
            "train",
            10_000,
            (10,),
            {
                "data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
                "data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
                "data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
                "data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
                "data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
            },
        )
        + cifar_files("test", 10_000, (10,), {"test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c"}),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none given; cite the report",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        archive=("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
        inside="cifar-10-batches-bin",
    ),
    Entry(
        name="cifar100",
        train=50_000,
        test=10_000,
        shape=(32, 32, 3),
        classes=100,
        files=cifar_files("train", 50_000, (20, 100), {"train.bin": "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e"})
        + cifar_files("test", 10_000, (20, 100), {"test.bin": "sha1:8fb6623e830365ff53cf14adec797474f5478006"}),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none given; cite the report",
        citation="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        addresses=("https://www.cs.toronto.edu/~kriz/",),
        archive=("cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),
        inside="cifar-100-binary",
    ),
)
ENTRIES = {entry.name: entry for entry in _ALL}
