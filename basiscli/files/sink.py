"""A file object through which HDF5 writes."""

import io
from pathlib import Path

from basiscli.files import digests


class Sink(io.RawIOBase):
    """A new file through which HDF5 writes. It remembers a failure instead of raising it.

    libhdf5 2.0 cannot close a file after a failed write, and crashes later. So every write reports success to libhdf5,
    and `check` raises the error.
    """

    def __init__(self, path: Path):
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def write(self, data) -> int:
        if self._error is None:
            try:
                view = memoryview(data).cast("B")
                while view:
                    view = view[self._file.write(view) :]
            except OSError as error:
                self._error = error
        return len(data)

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def check(self) -> None:
        """Raise the first failure, if any."""
        if self._error is not None:
            raise self._error

    def seal(self) -> None:
        """Append the digests of the file, after HDF5 has closed it. Raises the first failure, if any."""
        self.check()
        digests.seal(self._file)

    def close(self) -> None:
        self._file.close()
        super().close()
