"""What the attributes of our files hold: a dataclass for each kind of file and each JSON object in it.

Every field names its kind of value, which checks and converts the stored value, and says what the field holds.
docs/format.md is made of these dataclasses, and every reader and `basiscli check` read attributes by them.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from basiscli.data.axes import CHANNELS
from basiscli.errors import BadInput
from basiscli.files import hdf5
from basiscli.training import optim
from basiscli.training.recipe import Recipe

DONE, DIVERGED, UNFINISHED = "done", "diverged", "unfinished"
TAPS = ("post", "pre")


@dataclass(frozen=True)
class Kind:
    """A kind of value. says: the kind in words. convert: returns the value or raises ValueError. json: stored so."""

    says: str
    convert: Callable[[Any], Any]
    json: bool = False


def _kind(says: str, fits: Callable[[Any], bool]) -> Kind:
    def convert(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"is {value!r:.60}, not {says}")
        return value

    return Kind(says, convert)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) <= 2**53)


TEXT = _kind("text", lambda value: isinstance(value, str))
FLAG = _kind("true or false", lambda value: isinstance(value, bool))
ANY_NUMBER = _kind("a number, NaN or infinite", _is_number)
NUMBER = _kind("a number", lambda value: _is_number(value) and math.isfinite(value))
POSITIVE = _kind("a number above 0", lambda value: _is_number(value) and 0 < value < math.inf)
# Numbers beyond a signed 64-bit integer fit no array.
COUNT = _kind("a whole number from 0 on", lambda value: _is_whole(value) and 0 <= value < 2**63)
AT_LEAST_1 = _kind("a whole number from 1 on", lambda value: _is_whole(value) and 1 <= value < 2**63)


def one_of(names: Iterable[str]) -> Kind:
    """Return the kind of a text that is one of some names."""
    names = tuple(names)
    return _kind(
        " or ".join((", ".join(names[:-1]), names[-1])), lambda value: isinstance(value, str) and value in names
    )


def optional(kind: Kind) -> Kind:
    """Return the kind of a value or null."""
    return Kind(f"{kind.says}, or null", lambda value: None if value is None else kind.convert(value))


def list_of(kind: Kind) -> Kind:
    """Return the kind of a JSON list whose members are all of one kind."""
    says = f"a list; each member is {kind.says}"

    def convert(value: Any) -> list:
        if not isinstance(value, list):
            raise ValueError(f"is {value!r:.60}, not {says}")
        return [kind.convert(member) for member in value]

    return Kind(says, convert, json=True)


def object_of(kinds: Mapping[str, Kind], required: Iterable[str] = (), more: bool = False) -> Kind:
    """Return the kind of a JSON object with members of these names and kinds, and others as well if `more`."""

    def convert(value: Any) -> dict:
        if not isinstance(value, dict):
            raise ValueError(f"is {value!r:.60}, not a JSON object")
        for name in required:
            if name not in value:
                raise ValueError(f"lacks {name}")
        converted = {}
        for name, member in value.items():
            if name not in kinds and not more:
                raise ValueError(f"has a member {name!r:.60}, which this version does not know; upgrade basiscli")
            try:
                converted[name] = kinds[name].convert(member) if name in kinds else member
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
        return converted

    return Kind("a JSON object", convert, json=True)


@dataclass(frozen=True)
class Held:
    """A field of the schema: its name, the kind of its value, what it holds, and whether it must be there."""

    name: str
    kind: Kind
    holds: str
    required: bool


def described(cls: type) -> list[Held]:
    """Return the fields of a dataclass whose annotation is `Annotated[type, Kind, what it holds]`."""
    hints = get_type_hints(cls, include_extras=True)
    held = []
    for f in fields(cls):
        if get_origin(hints[f.name]) is Annotated:
            _, kind, holds = get_args(hints[f.name])
            held.append(Held(f.name, kind, holds, f.default is MISSING and f.default_factory is MISSING))
    return held


def object_from(cls: type, more: bool = False) -> Kind:
    """Return the kind of a JSON object whose members are the fields of a dataclass."""
    members = described(cls)
    return object_of({f.name: f.kind for f in members}, [f.name for f in members if f.required], more)


_OF_TYPES: dict[Any, Kind] = {
    int: COUNT,
    float: NUMBER,
    bool: FLAG,
    str: TEXT,
    float | None: optional(NUMBER),
    str | None: optional(TEXT),
    tuple[str, ...]: list_of(TEXT),
}
# A recipe: the fields of `Recipe` by their types, and those that hold less than their type.
RECIPE = object_of(
    {name: _OF_TYPES[kind] for name, kind in get_type_hints(Recipe).items()}
    | {"batch_size": AT_LEAST_1, "optimizer": one_of(optim.SLOTS), "schedule": one_of(optim.SCHEDULES)},
    required=("epochs", "batch_size", "optimizer"),
)
OBJECT = object_of({}, more=True)


@dataclass(kw_only=True)
class TrainedOn:
    """The attribute `dataset` of a network."""

    name: Annotated[str, TEXT, "the name of the data set, or the path of its file; empty: imported without one"]
    checksum: Annotated[str, TEXT, "SHA-256 of its arrays"]
    mean: Annotated[list, list_of(NUMBER), "the mean of each channel, which standardises images"]
    inverse_deviation: Annotated[list, list_of(POSITIVE), "1 / the standard deviation of each channel, likewise"]
    channels: Annotated[str | None, one_of(CHANNELS), "where a file's images have them, if `channels` said so"] = None


@dataclass(kw_only=True)
class Position:
    """The attribute `position` of a network. A file whose training is unfinished has all members."""

    epoch: Annotated[int, COUNT, "the epochs that are done"] = 0
    step: Annotated[int, COUNT, "the steps that are done of the next epoch"] = 0
    loss: Annotated[float, ANY_NUMBER, "the sum of the losses of these steps' images"] = 0
    hits: Annotated[int, COUNT, "how many of these images were classified correctly"] = 0
    samples: Annotated[int, COUNT, "the number of these images"] = 0


POSITION = tuple(f.name for f in described(Position))


@dataclass(kw_only=True)
class Origin:
    """The attribute `origin` of a network that was made of others. Nothing is ever read from these paths or written."""

    made: Annotated[str, TEXT, "the name of the command that made the network"]
    of: Annotated[list, list_of(TEXT), "the paths of the networks that it is made of; nothing reads or writes them"]


@dataclass(kw_only=True)
class Preprocessing:
    """How images of an imported network are prepared, in PyTorch's words."""

    divisor: Annotated[float, POSITIVE, "what pixels are divided by"]
    mean: Annotated[list, list_of(NUMBER), "what is then subtracted, per channel"]
    std: Annotated[list, list_of(POSITIVE), "what is then divided by, per channel"]


@dataclass(kw_only=True)
class Proof:
    """The proof of an import."""

    largest_difference: Annotated[float, NUMBER, "the largest difference of a logit from PyTorch's, over the largest"]
    inputs: Annotated[int, COUNT, "on how many inputs"]
    probe: Annotated[str, TEXT, "the path of the probe; nothing reads or writes it"]


@dataclass(kw_only=True)
class Imported:
    """The attribute `imported` of a network of another program, and of those made of it (docs/import.md)."""

    layout: Annotated[dict, OBJECT, "the names of its modules there"]
    preprocessing: Annotated[dict, object_from(Preprocessing), "how images are prepared"]
    proof: Annotated[dict | None, optional(object_from(Proof)), "that it computes the same; null: unproven"]


@dataclass(kw_only=True)
class NetworkAttributes:
    """The attributes of a network file."""

    architecture: Annotated[dict, OBJECT, "the description for `basiscli.nn.models.build`"]
    training: Annotated[dict, RECIPE, "the recipe: every option of `train` that decides the result"]
    dataset: Annotated[dict, object_from(TrainedOn), "the data set that it was trained on"]
    seed: Annotated[int, COUNT, "the seed"]
    status: Annotated[str, one_of((DONE, DIVERGED, UNFINISHED)), "whether training is done"]
    command: Annotated[str, TEXT, "the command line"]
    versions: Annotated[
        dict,
        OBJECT,
        "the versions that decide the bits of a result: basiscli, numpy, numba, Python, machine; on a GPU also cupy, "
        "device, precision",
    ]
    position: Annotated[dict, object_from(Position), "the state of training"] = field(default_factory=dict)
    origin: Annotated[
        dict,
        object_from(Origin, more=True),
        "only for a network made of others: of which, and the options of making it",
    ] = field(default_factory=dict)
    imported: Annotated[
        dict,
        object_from(Imported),
        "only for a network of another program and those made of it: names, preparation of images, proof",
    ] = field(default_factory=dict)


@dataclass(kw_only=True)
class Checksum:
    """The attribute `dataset` of an activation file."""

    checksum: Annotated[str, TEXT, "SHA-256 of the arrays of the data set that was shown"]


@dataclass(kw_only=True)
class ActivationAttributes:
    """The attributes of an activation file."""

    network: Annotated[str, TEXT, "the path of the network that was run; nothing reads or writes it"]
    dataset: Annotated[dict, object_from(Checksum), "the data set that was shown"]
    command: Annotated[str, TEXT, "the command line"] = ""


@dataclass(kw_only=True)
class ArrayAttributes:
    """The attributes of an array of activations."""

    tap: Annotated[str, one_of(TAPS), "before (pre) or after (post) the nonlinearity"]


@dataclass(kw_only=True)
class Match:
    """The attribute `match` of a permutation file."""

    files: Annotated[list, list_of(TEXT), "the paths of the matched networks, the reference first; nothing writes them"]


@dataclass(kw_only=True)
class ResultAttributes:
    """The attributes of a file of results."""

    analysis: Annotated[str, TEXT, "the command that wrote the file: `correlate` or `match`"] = ""
    files: Annotated[list | None, list_of(TEXT), "of `correlate`: the paths of the compared files"] = None
    seed: Annotated[int | None, COUNT, "of `correlate`: the seed of all that is drawn"] = None
    match: Annotated[dict | None, object_from(Match, more=True), "of `match`: the request"] = None


OF_KIND: dict[str, type] = {
    hdf5.NETWORK: NetworkAttributes,
    hdf5.ACTIVATIONS: ActivationAttributes,
    hdf5.RESULTS: ResultAttributes,
}
Schema = TypeVar("Schema")


def read(cls: type[Schema], reader: hdf5.Reader, path: str = "/") -> Schema:
    """Return the attributes of a file, or of the array at `path`. Raises BadInput that names file and attribute."""
    values = {}
    for f in described(cls):
        stored = reader.attribute(f.name, path)
        if stored is None:
            if f.required:
                raise BadInput(f"{reader.path}: has no attribute {f.name}; make the file anew")
            continue
        with reader.checked(f"the attribute {f.name}"):
            try:
                values[f.name] = f.kind.convert(json.loads(TEXT.convert(stored)) if f.kind.json else stored)
            except json.JSONDecodeError as error:
                raise BadInput(f"{reader.path}: the attribute {f.name} is no JSON ({error})") from error
            except ValueError as error:
                raise BadInput(f"{reader.path}: the attribute {f.name}: {error}") from error
    return cls(**values)
