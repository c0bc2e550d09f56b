"""Read HDF5 files (docs/format.md): networks, activations, results, and those of other programs.

Reading trusts nothing. Bytes of our files are compared with their digests before libhdf5 sees them. Links, virtual and
external data, strange types, sizes beyond the memory and damaged bytes are refused with a line that names them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from math import prod
from pathlib import Path

import h5py
import numpy as np

from basiscli.device import memory
from basiscli.errors import BadInput
from basiscli.files import digests, probe, tree
from basiscli.notes import log

# Files of format 1 have no digests.
WITHOUT_DIGESTS, FORMAT = 1, 2
NETWORK, ACTIVATIONS, RESULTS = KINDS = "network", "activations", "results"
ARRAYS = "arrays"
# A network is known by these groups, also when its attributes are gone.
_OF_A_NETWORK = {"weights", "state", "history"}

# The exceptions of libhdf5 and h5py for damaged files. The place of the damage decides which is raised.
_DAMAGE = (
    OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError, MemoryError, OverflowError,
    SystemError,
)  # fmt: skip
# An array that declares more than _UNCHECKED_BYTES must store at least a thousandth of them. Otherwise a damaged or
# hostile shape could ask for any amount of memory. (LZF packs at most about 1:100.)
_UNCHECKED_BYTES, _LARGEST_RATIO = 1 << 24, 1000
# (samples, ..., units): images in several shifts and times have at most so many axes.
MOST_AXES = 8


class Reader:
    """An HDF5 file open for reading. Every access checks the data that it reads. See `reading`.

    content: the bytes of a file with digests, None for files without.
    """

    def __init__(self, file: h5py.File, path: str, content: digests.SealedFile | None = None):
        self._file, self._content = file, content
        self.path = path
        self._damage: str | None = None

    @property
    def kind(self) -> str:
        """Return one of KINDS for files of basiscli, ARRAYS for files of other programs."""
        if not self.ours:
            return ARRAYS
        kind = self.attribute("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise BadInput(f"{self.path}: its attribute kind is {kind!r:.40}, not one of {', '.join(KINDS)}")
        return kind

    @property
    def ours(self) -> bool:
        """Whether basiscli wrote the file. The attribute `format` alone is no proof: other programs may use it, too."""
        with self.checked("the file"):
            attributes = self._file.attrs
            return "format" in attributes and "basiscli" in attributes

    @property
    def sealed(self) -> bool:
        """Whether the file has digests, which all bytes are compared with."""
        return self._content is not None

    def resembles_ours(self) -> bool:
        """Whether basiscli seems to have written a file that lacks `format` or `basiscli`."""
        with self.checked("the file"):
            if "basiscli" in self._file.attrs or set(self._file) >= _OF_A_NETWORK:
                return True
            known = "activations" in self._file or "analysis" in self._file.attrs
            kind = self.attribute("kind") if known else None
            return isinstance(kind, str) and kind in KINDS

    def differences(self) -> list[str]:
        """Return the places of all bytes that differ from their digest, in words."""
        return list(self._content.differences()) if self._content else []

    def attribute(self, name: str, path: str = "/", default=None):
        """Return an attribute as a plain Python value, or `default` if it does not exist."""
        with self.checked(f"the attribute {name}"):
            attributes = self._file[path].attrs
            if name not in attributes:
                return default
            if self.sealed and self.varies(name, path):
                raise ValueError("of variable length, which no file of this format has")
            value = attributes[name]
            if isinstance(value, h5py.Empty):
                raise ValueError("empty")
            value = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
            return value.item() if isinstance(value, np.generic) else value

    def varies(self, name: str, path: str = "/") -> bool:
        """Whether an attribute is of variable length: HDF5 keeps such values apart, where damage can hang it."""
        return self._file[path].attrs.get_id(name).dtype.hasobject

    def datasets(self, group: str = "/") -> dict[str, h5py.Dataset]:
        """Return all arrays below a group by their path within it. The dict is empty if the group does not exist.

        Raises BadInput for links and for arrays stored in other files: they could read any file of the user.
        """
        root = self._child(group)
        take = partial(tree.own, path=self.path)
        return tree.walk(root, take, self.checked) if isinstance(root, h5py.Group) else {}

    def members(self) -> dict[str, h5py.Dataset | tree.Unreadable]:
        """Return all members of another program's file that are no groups, by path, in the file's order.

        This is the order of writing if the file keeps it, otherwise the natural order of names. Links within the file
        are followed. Members in other files come as `Unreadable`, so that the user can read the rest.
        """
        return tree.walk(self._file["/"], tree.linked, self.checked)

    def array(self, path: str) -> np.ndarray:
        """Return a whole array of numbers."""
        node = self._child(path)
        if not isinstance(node, h5py.Dataset):
            raise BadInput(f"{self.path}: no array {path}")
        with self.checked(self.require_numbers(node).name):
            self._require_memory(node.name, node.size * node.dtype.itemsize)
            return node[()]

    def arrays(self, group: str) -> dict[str, np.ndarray]:
        """Return all arrays below a group."""
        return {name: self.array(f"{group}/{name}") for name in self.datasets(group)}

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows of an array that `require_numbers` accepted, by its path."""
        with self.checked(name):
            array = self._file[name]
            self._require_memory(name, (stop - start) * prod(array.shape[1:]) * array.dtype.itemsize)
            return array[start:stop]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._content:
            self._content.close()

    def require_numbers(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Return the array if it holds numbers and lies in this file. Raises BadInput otherwise."""
        with self.checked(dataset.name):
            if dataset.is_virtual or dataset.external:
                raise BadInput(f"{self.path}: {dataset.name} lies in other files; only the file itself is read")
            if dataset.dtype.kind not in "fiub":
                raise BadInput(f"{self.path}: {dataset.name} holds {dataset.dtype}, not numbers")
            declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
            if declared > _UNCHECKED_BYTES and declared > _LARGEST_RATIO * stored:
                raise BadInput(f"{self.path}: {dataset.name} declares {declared} bytes and holds {stored}, no data")
            if dataset.ndim > MOST_AXES:
                raise BadInput(f"{self.path}: {dataset.name} has {dataset.ndim} axes; at most {MOST_AXES} are read")
            if dataset.chunks:
                self._require_memory(f"a chunk of {dataset.name}", prod(dataset.chunks) * dataset.dtype.itemsize)
            return dataset

    def _require_memory(self, what: str, size: int) -> None:
        if size > _UNCHECKED_BYTES and size > (free := memory.available()):
            raise BadInput(f"{self.path}: {what} takes {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")

    def unwritten(self, dataset: h5py.Dataset) -> str | None:
        """Return a note on the number of chunks of an array that were never written, None if all were."""
        with self.checked(dataset.name):
            if not dataset.chunks:
                return None
            grid = zip(dataset.shape, dataset.chunks, strict=True)
            count, written = prod(-(-side // chunk) for side, chunk in grid), dataset.id.get_num_chunks()
            return (
                f"has {count - written} of {count} chunks that nobody wrote; they read as {dataset.fillvalue}"
                if written < count
                else None
            )

    @contextmanager
    def checked(self, what: str) -> Iterator[None]:
        """Turn the errors of libhdf5, h5py and conversions on damaged files into BadInput that names `what`."""
        try:
            yield
        except BadInput:
            self._require_no_difference(what)
            raise
        except _DAMAGE as error:
            self._require_no_difference(what)
            raise BadInput(f"{self.path}: {what} is damaged ({_reason(error)}); make the file anew") from error
        self._require_no_difference(what)

    def _require_no_difference(self, what: str) -> None:
        """Raise BadInput if bytes differed from their digest, now or before: libhdf5 keeps what it has read."""
        if self._content and self._content.difference:
            said = f"{self.path}: {what} is damaged ({self._content.difference}); make the file anew"
            self._damage = self._damage or said
            raise BadInput(self._damage)

    def _child(self, path: str) -> h5py.Group | h5py.Dataset | None:
        """Return the member at a path from the root, None if it does not exist."""
        node = self._file
        for name in filter(None, path.split("/")):
            with self.checked(name):
                if not isinstance(node, h5py.Group) or name not in node:
                    return None
                node = tree.own(node, name, self.path)
        return node


@contextmanager
def reading(path: str | Path) -> Iterator[Reader]:
    """Open a file for reading; see `open_reader`."""
    reader = open_reader(path)
    try:
        yield reader
    finally:
        reader.close()


def open_reader(path: str | Path, known: bool = False) -> Reader:
    """Open a file for reading. Raises BadInput if it is missing, no HDF5, truncated, or of a newer format.

    known: this program has opened the file before, so it does not hang libhdf5.
    """
    path = str(path)
    if not Path(path).exists():
        raise BadInput(f"{path}: no such file")
    if Path(path).is_dir():
        raise BadInput(f"{path}: is a folder, not a file; name its .h5 files")
    if not Path(path).is_file():
        raise BadInput(f"{path}: is no regular file")
    try:
        content = digests.open_sealed(path)
    except digests.Differs as error:
        raise BadInput(f"{path}: is damaged ({error}); make the file anew") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({digests.reason(error)})") from error
    if content is None and not known:
        _require_survey(path)
    try:
        file = h5py.File(path if content is None else content, "r")
    except (OSError, RuntimeError) as error:
        if content and content.difference:
            raise BadInput(f"{path}: is damaged ({content.difference}); make the file anew") from error
        raise BadInput(f"{path}: cannot be read ({_reason(error)})") from error
    reader = Reader(file, path, content)
    try:
        _require_known(reader)
    except BadInput:
        file.close()
        raise
    return reader


def _require_survey(path: str) -> None:
    """Raise BadInput if a file is no HDF5 file, or one that hangs or crashes libhdf5."""
    try:
        if not h5py.is_hdf5(path):
            raise BadInput(f"{path}: no HDF5 file")
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{path}: cannot be read ({_reason(error)})") from error
    if trouble := probe.trouble(partial(_survey, path)):
        raise BadInput(f"{path}: is damaged ({trouble}); make the file anew")


def _survey(path: str) -> None:
    """Read everything of a file that a reader may read, but for the values of arrays."""
    with h5py.File(path, "r") as file:
        reader = Reader(file, path)
        if reader.ours or reader.resembles_ours():
            dict(file.attrs)
        for node in reader.members().values():
            with suppress(*_DAMAGE, BadInput):
                if reader.ours and isinstance(node, h5py.Dataset):
                    dict(node.attrs)
                reader.unwritten(reader.require_numbers(node))


def _require_known(reader: Reader) -> None:
    """Raise BadInput for a file of a newer format, and for one of ours that lacks what its format promises."""
    changed = f"{reader.path}: a file of basiscli that was cut off or changed by another program; make the file anew"
    if not reader.ours:
        if reader.sealed or reader.resembles_ours():
            raise BadInput(changed)
        return
    version = reader.attribute("format")
    if not isinstance(version, int) or version > FORMAT:
        said = f"has format {version!r:.40}, this version reads up to {FORMAT}; upgrade basiscli"
        raise BadInput(f"{reader.path}: {said}")
    if version != (FORMAT if reader.sealed else WITHOUT_DIGESTS):
        raise BadInput(changed)
    if not reader.sealed:
        with reader.checked("the attribute basiscli"):
            if not reader.varies("basiscli"):  # as no file without digests has it
                raise BadInput(changed)
        _note_no_digests(Path(reader.path).parent)


@cache
def _note_no_digests(folder: Path) -> None:
    log.warning(f"{folder}: holds files of an older version, which have no digests: damage may pass unnoticed")


def _reason(error: Exception) -> str:
    """Return the part of an HDF5 error that a user can act on."""
    text = " ".join(str(error).split())
    # The reason stands in brackets: "Unable to synchronously open file (truncated file: eof = 96, ...)".
    start, end = text.find("("), text.rfind(")")
    return text[start + 1 : end] if 0 <= start < end else text or type(error).__name__
