"""Data sets on disk: the cache folder, fetching into it, and importing files that the user already has."""

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from basiscli import atomic
from basiscli.data.readers import DAMAGE, reading, unpacked
from basiscli.data.registry import Entry, File, lookup
from basiscli.errors import BadInput

BUNDLED = Path(__file__).parent
TIMEOUT = 60  # seconds without a byte
CHUNK = 2**16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Placed:
    """The outcome for one file of a data set. `status`: fetched, imported or kept (the file was there already).

    official: whether the file has the pinned checksum; None if this is unknown, because the checksum is of the
    compressed file and this file is not compressed.
    """

    file: str
    status: str
    official: bool | None
    path: Path

    def record(self, name: str) -> dict:
        """Return the record of the file, of the data set `name`."""
        return {"name": name} | asdict(self) | {"path": str(self.path)}


def folder() -> Path:
    """Return the folder of fetched data: the environment's BASISCLI_DATA, or the platform's usual cache folder."""
    if chosen := os.environ.get("BASISCLI_DATA"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("basiscli"))


def home(entry: Entry) -> Path:
    """Return the folder into which a data set's files are written, and which is searched first."""
    return (BUNDLED if entry.bundled else folder()) / entry.name / entry.inside


def locate(entry: Entry) -> dict[str, Path]:
    """Return the paths of the files of a data set that exist, by their names in the registry."""
    return _find(entry, [home(entry), *_places(entry, folder())])


def fetch(name: str, progress: Progress | None = None) -> list[Placed]:
    """Download the missing files of a data set into its home, and return the outcome for each file.

    Existing files without faults are kept, so an interrupted fetch goes on when it is run again. A download goes to a
    temporary folder inside the destination and moves into place when its checksum is right. A failure leaves nothing
    else behind. `progress(file, done, total)` is called as bytes arrive; a total of 0 means unknown.

    Raises BadInput for an unknown name, a failed download and a folder that cannot be written.
    """
    entry = lookup(name)
    present = {file.name: path for file, path in _located(entry) if _reads(file, path)}
    missing = [file for file in entry.files if file.name not in present]
    if missing:
        with _staging(entry) as work:
            (_fetch_archive if entry.archive else _fetch_files)(entry, missing, work, progress or _silent)
    return [
        Placed(file.name, "kept", is_official(file, present[file.name]), present[file.name])
        if file.name in present
        else Placed(file.name, "fetched", True, home(entry) / file.name)
        for file in entry.files
    ]


def import_folder(name: str, source: str | Path, force: bool = False) -> list[Placed]:
    """Copy the files of a data set from a folder into its home, and return the outcome for each file.

    All files are read and checked before the first is written. Files have the names in the registry, compressed or not.
    They lie in the folder itself, in the subfolders that the cache uses, or in the archive of the release. A file whose
    checksum differs from the released file is imported, too: see `Placed.official`. A file is kept if the home already
    has the same content.

    Raises BadInput for an unknown or a bundled name, a missing or damaged file, a folder that cannot be written and,
    without `force`, for a file that would replace a different one.
    """
    entry, source = lookup(name), Path(source)
    if entry.bundled:
        raise BadInput(f"{name} is bundled with basiscli: there is nothing to import")
    if not source.is_dir():
        raise BadInput(f"{source}: not a folder; give the one that holds {entry.files[0].name}")
    with _staging(entry) as work:
        sources = _gather(entry, source, work)
        present = {file.name: path for file, path in _located(entry)}
        same = {name for name, path in present.items() if _same(entry, name, path, sources[name])}
        if changed := [path for name, path in present.items() if name not in same and not force]:
            raise BadInput(f"{changed[0]}: there already, and other than the one in {source}; `force` replaces it")
        placed = []
        for file in entry.files:
            if file.name in same:
                path, status = present[file.name], "kept"
            else:
                path, status = home(entry) / file.name, "imported"
                _copy(sources[file.name], work / file.name)
            placed.append(Placed(file.name, status, is_official(file, sources[file.name]), path))
        for result in placed:
            if result.status == "imported":
                _place(work / result.file, result.path)
    return placed


def is_official(file: File, path: Path) -> bool | None:
    """Return whether a file has the pinned checksum, None if this is unknown (see `Placed`)."""
    if file.packed and path.suffix != ".gz":
        return None
    return _matches(path, file.checksum, file.packed)


def _places(entry: Entry, root: Path) -> list[Path]:
    """Return the folders under a root that may hold the files of a data set, in order of preference."""
    inside = [root / entry.inside] if entry.inside else []
    return [root / entry.name / entry.inside, root / entry.name, *inside]


def _find(entry: Entry, places: Sequence[Path]) -> dict[str, Path]:
    paths = {}
    for file in entry.files:
        candidates = (place / name for place in places for name in (file.name, file.name.removesuffix(".gz")))
        if path := next((path for path in candidates if path.is_file()), None):
            paths[file.name] = path
    return paths


def _located(entry: Entry) -> Iterator[tuple[File, Path]]:
    paths = locate(entry)
    return ((file, paths[file.name]) for file in entry.files if file.name in paths)


def _reads(file: File, path: Path) -> bool:
    try:
        file.read(path)
    except BadInput:
        return False
    return True


def _same(entry: Entry, name: str, old: Path, new: Path) -> bool:
    file = next(file for file in entry.files if file.name == name)
    if not _reads(file, old):
        return False
    before, after = file.read(old), file.read(new)
    return all(np.array_equal(before[key], after[key]) for key in after)


def _matches(path: Path, checksum: str, packed: bool) -> bool:
    """Return whether a file (`packed`) or its unpacked bytes (otherwise) have a checksum."""
    algorithm, _, expected = checksum.partition(":")
    try:
        with path.open("rb") if packed else unpacked(path) as stream:
            digest = hashlib.file_digest(stream, partial(hashlib.new, algorithm, usedforsecurity=False))
    except DAMAGE:
        return False
    return digest.hexdigest() == expected


@contextmanager
def _staging(entry: Entry) -> Iterator[Path]:
    """Yield a temporary folder in a data set's folder. In the end, remove it and new folders that stayed empty."""
    target = folder() / entry.name
    made = [place for place in (target, *target.parents) if not place.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".part-", dir=target))
    except OSError as error:
        raise BadInput(f"{target}: {error.strerror}; set BASISCLI_DATA to a folder that you can write") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _place(path: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    path.chmod(0o644)  # temporary files are readable for their owner only, but a cache may be shared
    atomic.place(path, target)


def _copy(path: Path, target: Path) -> None:
    """Copy a file, compressed if the target's name ends in .gz. Do nothing if the path is the target."""
    if path == target:
        return
    if target.suffix == ".gz" and path.suffix != ".gz":
        with path.open("rb") as source, gzip.GzipFile(target, "wb", compresslevel=6, mtime=0) as packed:
            shutil.copyfileobj(source, packed, CHUNK)
    else:
        shutil.copyfile(path, target)


def _gather(entry: Entry, source: Path, work: Path) -> dict[str, Path]:
    """Return the paths of all files of a data set, from a folder or unpacked from the archive in it, and checked."""
    paths = _find(entry, [source, *_places(entry, source)])
    missing = [file for file in entry.files if file.name not in paths]
    for file in entry.files:
        if file.name in paths:
            file.read(paths[file.name])
    if missing:
        archive = source / entry.archive[0] if entry.archive else source
        if not archive.is_file():
            raise BadInput(f"{source}: no {', '.join(file.name for file in missing)} in it; see docs/data.md")
        paths |= _unpack(archive, entry, missing, work)
    return paths


def _unpack(archive: Path, entry: Entry, files: Sequence[File], work: Path) -> dict[str, Path]:
    """Unpack some files of a data set from a .tar.gz file into `work`, and check them.

    Only ordinary members with exactly the expected name and size are read, and written into `work` under their plain
    names. So an archive cannot choose the place or the amount of data that is written.
    """
    wanted = {f"{entry.inside}/{file.name}": file for file in files}
    with reading(archive), tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if file := wanted.pop(member.name, None):
                if not member.isreg() or member.size != file.size:
                    raise BadInput(f"{archive}: {member.name} is not a file of {file.size:,} bytes; get a fresh copy")
                content = tar.extractfile(member)
                assert content is not None  # a regular member has content
                with content, (work / file.name).open("wb") as target:
                    shutil.copyfileobj(content, target, CHUNK)
            if not wanted:
                break
    if wanted:
        raise BadInput(f"{archive}: no {', '.join(wanted)} in it; get a fresh copy")
    for file in files:
        try:
            file.read(work / file.name)
        except BadInput as error:
            raise BadInput(f"{archive}: {error}".replace(f"{work}{os.sep}", "")) from error
    return {file.name: work / file.name for file in files}


def _fetch_files(entry: Entry, files: Sequence[File], work: Path, progress: Progress) -> None:
    for file in files:
        _place(_download(entry, file.name, file.checksum, file.packed, work, progress), home(entry) / file.name)


def _fetch_archive(entry: Entry, files: Sequence[File], work: Path, progress: Progress) -> None:
    """Unpack files from the archive. A missing archive is downloaded first and removed afterwards."""
    assert entry.archive is not None  # the caller asked for files of an archive
    name, checksum = entry.archive
    archive = folder() / entry.name / name
    present = archive.is_file() and _matches(archive, checksum, packed=True)
    if not present:
        # Move it into place before unpacking. If unpacking fails, for example on a full disk, it need not come again.
        _place(_download(entry, name, checksum, True, work, progress), archive)
    for file, path in _unpack(archive, entry, files, work).items():
        _place(path, home(entry) / file)
    if not present:
        archive.unlink()


def _download(entry: Entry, name: str, checksum: str, packed: bool, work: Path, progress: Progress) -> Path:
    """Download a file from the first address that delivers it with the right checksum."""
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("ERROR")  # pooch logs on stderr, where the progress bar is
    failures = []
    for address in entry.addresses:
        downloader = pooch.HTTPDownloader(
            progressbar=_Meter(partial(progress, name)),
            chunk_size=CHUNK,
            timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"},  # otherwise requests unpacks .gz files on the way
        )
        try:
            # Verified below, not by pooch: some of the checksums are of the unpacked bytes.
            path = Path(pooch.retrieve(address + name, None, fname=name, path=work, downloader=downloader))
        except RequestException as error:
            failures.append(f"{address}{name}: {_reason(error)}")
            continue
        if _matches(path, checksum, packed):
            return path
        path.unlink()
        failures.append(f"{address}{name}: its checksum is not {checksum}")
    raise BadInput(
        f"{'; '.join(failures)}. Run `basiscli data fetch {entry.name}` again to go on, "
        f"or get the files yourself: `basiscli data import {entry.name} FOLDER`"
    )


def _reason(error: OSError) -> str:
    from requests.exceptions import HTTPError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, Timeout):
        return f"no answer for {TIMEOUT} s"
    return f"the connection failed or broke off ({type(error).__name__})"


def _silent(file: str, done: int, total: int) -> None:
    pass


class _Meter:
    """A progress bar for pooch, which sets `total`, calls `update` for each chunk, and at the end with the total."""

    def __init__(self, report: Callable[[int, int], None]):
        self.report = report
        self.total = 0
        self.done = 0

    def update(self, amount: int) -> None:
        self.done = min(self.done + amount, self.total) if self.total else self.done + amount
        self.report(self.done, self.total)

    def reset(self) -> None:
        """Do nothing. pooch calls it before the last `update`, which adds the whole total."""

    def close(self) -> None:
        """Nothing to close."""
