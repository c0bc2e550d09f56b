"""SHA-256 digests of a file's bytes, and a file object that compares all bytes with them before HDF5 sees them.

A sealed file is HDF5 content of `length` bytes, then a table, the SHA-256 of each BLOCK bytes of the content, then a
trailer: MAGIC, `length` (8 bytes, little-endian), and the SHA-256 of table, MAGIC and `length`. HDF5 ignores bytes
behind its content, so that any HDF5 reader can read the file. Why digests of bytes: docs/decisions/files.md.
"""

import io
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

BLOCK = 1 << 16
MAGIC = b"basiscli digest1"
DIGEST = sha256().digest_size
_TRAILER = len(MAGIC) + 8 + DIGEST


class Differs(OSError):
    """Bytes of a file that differ from their digest, or digests that differ from their own. The message says which."""


def seal(file: io.FileIO) -> None:
    """Append the digests of all bytes of an open file. Raises OSError if the file cannot be read or written."""
    length = file.seek(0, os.SEEK_END)
    table = bytearray()
    block = bytearray(BLOCK)
    for start in range(0, length, BLOCK):
        part = memoryview(block)[: min(BLOCK, length - start)]
        if _read_at(file.fileno(), part, start) < len(part):
            raise OSError("it became shorter")
        table += sha256(part).digest()
    rest = memoryview(bytes(table) + _trailer(length, table))
    while rest:
        rest = rest[file.write(rest) :]


def open_sealed(path: str | Path) -> "SealedFile | None":
    """Return the content of a sealed file, None if the file has no trailer. Raises Differs for damaged digests."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        trailer = _bytes_at(descriptor, _TRAILER, max(0, size - _TRAILER))
        if len(trailer) < _TRAILER or not trailer.startswith(MAGIC):
            os.close(descriptor)
            return None
        length = int.from_bytes(trailer[len(MAGIC) : -DIGEST], "little")
        in_table = DIGEST * -(-length // BLOCK)
        table = _bytes_at(descriptor, in_table, length) if length + in_table + _TRAILER == size else b""
        if _trailer(length, table) != trailer:
            raise Differs("its digests are damaged")
    except OSError:
        os.close(descriptor)
        raise
    return SealedFile(descriptor, length, table)


class SealedFile(io.RawIOBase):
    """The content of a sealed file, for reading. A block is compared with its digest when a byte of it is first read.

    libhdf5 2.0 keeps a file open whose reading failed, and crashes when the process ends. So a block that differs, or
    cannot be read, is given to it as zeros, and `difference` says so: whoever reads with libhdf5 looks there after
    every call. The zeros may stay in the caches of libhdf5, so nothing that is read after a difference counts.
    """

    def __init__(self, descriptor: int, length: int, table: bytes):
        self._descriptor, self._length, self._table = descriptor, length, table
        self._place = 0
        self._compared = bytearray(len(table) // DIGEST)
        self.difference: str | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._length - self._place)]
        done = 0
        while done < len(view):
            done += self._fill(view[done:], self._place + done)
        self._place += done
        return done

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def differences(self) -> Iterator[str]:
        """Compare all blocks, and yield the reason for each that differs or cannot be read."""
        block = memoryview(bytearray(BLOCK))
        for k in range(len(self._compared)):
            try:
                self._read_block(k, block[: self._size(k)])
            except OSError as error:
                yield reason(error)

    def _fill(self, view: memoryview, place: int) -> int:
        """Fill the start of a buffer with the bytes of one block from a place on, and return their number."""
        k, start = place // BLOCK, place % BLOCK
        size = self._size(k)
        count = min(len(view), size - start)
        try:
            if self._compared[k]:
                self._read(view[:count], place)
            elif count == size:
                self._read_block(k, view[:count])
            else:
                block = memoryview(bytearray(size))
                self._read_block(k, block)
                view[:count] = block[start : start + count]
        except OSError as error:
            self.difference = self.difference or reason(error)
            view[:count] = bytes(count)
        return count

    def _size(self, k: int) -> int:
        return min(BLOCK, self._length - k * BLOCK)

    def _read_block(self, k: int, view: memoryview) -> None:
        """Read block k. Raises Differs if it differs from its digest."""
        self._read(view, k * BLOCK)
        if sha256(view).digest() != self._table[k * DIGEST : (k + 1) * DIGEST]:
            start = k * BLOCK
            raise Differs(f"bytes {start} to {start + self._size(k)} differ from their digest")
        self._compared[k] = 1

    def _read(self, view: memoryview, place: int) -> None:
        if _read_at(self._descriptor, view, place) < len(view):
            raise Differs("it became shorter")


def reason(error: OSError) -> str:
    """Return why bytes could not be had."""
    return error.strerror or str(error)


def _read_at(descriptor: int, view: memoryview, place: int) -> int:
    """Fill a buffer with the bytes of a file from a place on; return their number, which is less only at its end."""
    done = 0
    while done < len(view) and (count := os.preadv(descriptor, [view[done:]], place + done)):
        done += count
    return done


def _bytes_at(descriptor: int, size: int, place: int) -> bytes:
    block = bytearray(size)
    return bytes(block[: _read_at(descriptor, memoryview(block), place)])


def _trailer(length: int, table: bytes | bytearray) -> bytes:
    head = MAGIC + length.to_bytes(8, "little")
    return head + sha256(bytes(table) + head).digest()
