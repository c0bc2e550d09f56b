"""Is a file of ours whole? Its digests, its attributes, and the shapes and types of its arrays."""

from collections.abc import Iterable, Iterator

from basiscli.errors import BadInput
from basiscli.files import activations, hdf5, networks, schema

# The rows of an array that are read at once.
ROWS = 1000


def check_files(paths: Iterable[str]) -> Iterator[dict]:
    """Yield a record for each file: path, kind, format, whole, and the first problem, None for a whole file.

    A file is whole if all its bytes fit their digests and its content fits its schema. A file of an older version has
    no digests: HDF5's own checksums are compared. Files of other programs are not whole: nothing is known about them.
    """
    for path in paths:
        record = {"path": path, "kind": None, "format": None, "whole": False, "problem": None}
        try:
            with hdf5.reading(path) as reader:
                record |= {"kind": reader.kind, "format": reader.attribute("format") if reader.ours else None}
                _require_whole(reader)
            record["whole"] = True
        except BadInput as error:
            record["problem"] = str(error).removeprefix(f"{path}: ")
        yield record


def _require_whole(reader: hdf5.Reader) -> None:
    if reader.kind == hdf5.ARRAYS:
        raise BadInput(f"{reader.path}: a file of another program, which has no digests")
    if differences := reader.differences():
        more = f", and {len(differences) - 1} more places" if differences[1:] else ""
        raise BadInput(f"{reader.path}: is damaged ({differences[0]}{more}); make the file anew")
    if reader.kind == hdf5.NETWORK:
        networks.contents(reader)
    else:
        schema.read(schema.OF_KIND[reader.kind], reader)
    activations.recorded(reader)
    for name, array in reader.datasets().items():
        reader.require_numbers(array)
        if not reader.sealed and array.ndim:
            for start in range(0, len(array), ROWS):
                reader.part(array.name, start, min(start + ROWS, len(array)))
        elif not reader.sealed:
            reader.array(name)
