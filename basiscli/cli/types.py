"""The types of options. Choices come from constants of the library, which are loaded only when an option is used."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import cast

import click

from basiscli.errors import suggestion


def constant(home: str) -> tuple[str, ...]:
    """Return the names in a constant of the library, a tuple or a dict, such as `basiscli.nn.models:MODELS`."""
    module, _, name = home.partition(":")
    return tuple(getattr(import_module(module), name))


class Choice(click.Choice):
    """One of the names that a constant of the library holds."""

    def __init__(self, home: str, case_sensitive: bool = True) -> None:
        self.home, self.case_sensitive = home, case_sensitive

    @cached_property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        """The names, in the library's order."""
        return constant(self.home)

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        return f"'{value}' is none of {', '.join(self.choices)}{suggestion(str(value), self.choices)}"


class Names(click.ParamType):
    """Names from a constant of the library, separated by commas. `all` stands for every name."""

    name = "names"

    def __init__(self, home: str) -> None:
        self.home = home

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The names, in the library's order."""
        return constant(self.home)

    def convert(self, value, parameter, context) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = self.choices if value == "all" else tuple(dict.fromkeys(value.split(",")))
        for name in names:
            if name not in self.choices:
                known = f"{', '.join(self.choices)}, all{suggestion(name, self.choices)}"
                self.fail(f"'{name}' is none of {known}", parameter, context)
        return names


class Matches(Names):
    """Ways to match, separated by commas: names from a constant of the library, or files of permutations."""

    def convert(self, value, parameter, context) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = dict.fromkeys(value.split(","))
        files = [name for name in names if name.endswith(".h5")]
        ways = ",".join(name for name in names if name not in files)
        return (*(super().convert(ways, parameter, context) if ways or not files else ()), *files)


class Way(click.ParamType):
    """A way to match, or a file of permutations."""

    name = "way"

    def convert(self, value, parameter, context) -> str:
        ways = constant("basiscli.alignment.matching:WAYS")
        if value not in ways and not Path(value).exists():
            self.fail(f"'{value}' is none of {', '.join(ways)}, and no file", parameter, context)
        return value


class Streams(click.ParamType):
    """A list of random streams: `init,order,augment`, or `none`."""

    name = "streams"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        streams = tuple(part.strip() for part in value.split(",")) if value != "none" else ()
        known = constant("basiscli.training.recipe:STREAMS")
        if unknown := [stream for stream in streams if stream not in known]:
            self.fail(f"'{unknown[0]}' is none of {', '.join(known)}", param, ctx)
        return streams


class Finite(click.FloatRange):
    """A finite number in a range. click's own type accepts `nan`, since no comparison with nan holds."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is not a finite number", param, ctx)
        return number


class SeedList(click.ParamType):
    """Seeds: `5` (five of them, 0 to 4), `3-7`, `0,2,9`, or a mixture such as `0,4-6`."""

    name = "seeds"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if re.fullmatch(r"\d+", value):
            seeds = list(range(int(value)))
        else:
            seeds = []
            for part in value.split(","):
                match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
                if not match or (match[2] and int(match[2]) < int(match[1])):
                    self.fail(f"'{value}': write 5 (for 0 to 4), 3-7, or 0,2,9", param, ctx)
                seeds.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
        if not seeds or len(set(seeds)) < len(seeds):
            self.fail(f"'{value}' names {'a seed twice' if seeds else 'no seed'}", param, ctx)
        return tuple(seeds)


class EpochList(click.ParamType):
    """Different epochs, `0,5`, or `log`, which the library knows. An empty text means no epoch."""

    name = "epochs"

    def convert(self, value, param, ctx):
        if not isinstance(value, str) or value == "log":
            return value
        parts = [part.strip() for part in value.split(",")] if value else []
        if not all(re.fullmatch(r"\d+", part) for part in parts) or len(set(map(int, parts))) < len(parts):
            self.fail(f"'{value}': write different epochs with commas between, such as 0,5, or log", param, ctx)
        return tuple(int(part) for part in parts)


class Factor(click.ParamType):
    """An option of training and its levels: `optimizer=sgd,adamw`."""

    name = "factor"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        name, _, levels = value.partition("=")
        if not name or not all(levels.split(",")):
            self.fail(f"'{value}': write an option of training and its levels, such as optimizer=sgd,adamw", param, ctx)
        return name, tuple(levels.split(","))


class Width(click.ParamType):
    """A width: a whole number, a fraction such as `1/4`, or a decimal."""

    name = "width"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"\d+(\.\d+)?|\d+/0*[1-9]\d*", value) or not (width := Fraction(value)):
            self.fail(f"'{value}': write a number above 0, such as 4, 0.5 or 1/4", param, ctx)
        return int(width) if width.denominator == 1 else float(width)


class WidthList(click.ParamType):
    """Widths: `16,64,256` or `1/4,1/2,1`."""

    name = "widths"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        widths = tuple(Width().convert(part.strip(), param, ctx) for part in value.split(","))
        if len(set(widths)) < len(widths):
            self.fail(f"'{value}' names a width twice", param, ctx)
        return widths


class Widths(click.ParamType):
    """Widths of hidden layers: `512,256`."""

    name = "widths"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        parts = value.split(",")
        if not all(re.fullmatch(r"\s*0*[1-9]\d*\s*", part) for part in parts):
            self.fail(f"'{value}': write widths from 1 on, such as 512,256", param, ctx)
        return tuple(map(int, parts))


class Layout(click.ParamType):
    """A stack of convolutions: `64,pool,128,pool`."""

    name = "layout"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(re.fullmatch(r"0*[1-9]\d*|pool", part) for part in parts) or set(parts) == {"pool"}:
            self.fail(f"'{value}': write channels and pool, such as 64,64,pool,128", param, ctx)
        return tuple(part if part == "pool" else int(part) for part in parts)


class Prefixes(click.ParamType):
    """Numbers of layers: `0,1,2`."""

    name = "prefixes"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"\d+(,\d+)*", value):
            self.fail(f"'{value}': write numbers of layers, such as 0,1,2", param, ctx)
        return tuple(map(int, value.split(",")))


class Powers(click.ParamType):
    """Powers of M: `0.25,0.5,1`."""

    name = "powers"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        try:
            # Rounded as in the names of folders, so that two powers never share a folder.
            powers = tuple(dict.fromkeys(float(f"{float(part):g}") for part in value.split(",")))
        except ValueError:
            self.fail(f"'{value}': write numbers, such as 0.25,0.5,1", param, ctx)
        for power in powers:
            if not 0 < power <= 1:
                self.fail(f"{power:g} is not above 0 and at most 1", param, ctx)
        return powers


class Points(click.ParamType):
    """An odd number, at least 3."""

    name = "points"

    def convert(self, value, parameter, context) -> int:
        if str(value).isdecimal() and int(value) >= 3 and int(value) % 2:
            return int(value)
        self.fail(f"'{value}': an odd number from 3 on, so that the midpoint is one", parameter, context)


class Positions(click.ParamType):
    """`all`, `mean`, or a number."""

    name = "positions"

    def convert(self, value, parameter, context) -> str | int:
        if value in ("all", "mean"):
            return value
        if str(value).isdecimal() and int(value) > 0:
            return int(value)
        self.fail(f"'{value}' is neither all, mean nor a number from 1", parameter, context)


class Rename(click.ParamType):
    """A rule for names: `module.*=*`. The `*` on the right is what `*` on the left matched."""

    name = "rename"

    def convert(self, value, parameter, context) -> tuple[str, str]:
        if not isinstance(value, str):
            return value
        old, equals, new = value.partition("=")
        if not (old and equals and new) or old.count("*") > 1 or new.count("*") > old.count("*"):
            self.fail(f"'{value}': write OLD=NEW, with one * on a side at most, such as module.*=*", parameter, context)
        return old, new


class Memory(click.ParamType):
    """An amount of memory: `4G`, `500M`, `1.5G`."""

    name = "memory"

    def convert(self, value, parameter, context) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])(?:i?B)?", value, re.IGNORECASE)
        if not match or not float(match[1]):
            self.fail(f"'{value}': write megabytes or gigabytes, such as 500M or 4G", parameter, context)
        return int(float(match[1]) * (1 << (30 if match[2].upper() == "G" else 20)))


class Image(click.ParamType):
    """The size of an image: height x width x channels, `32x32x3`."""

    name = "image"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)x0*([1-9]\d*)", value)
        if not match:
            self.fail(f"'{value}': write height x width x channels, such as 32x32x3", param, ctx)
        return tuple(map(int, match.groups()))


class Figure(click.Path):
    """The file name of a figure. Its suffix decides the format."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value, parameter, context) -> Path:
        path = cast("Path", super().convert(value, parameter, context))
        formats = constant("basiscli.plots.style:FORMATS")
        if path.suffix.lower() not in formats:
            self.fail(f"'{path}': a figure is written as {', '.join(formats)}", parameter, context)
        return path
