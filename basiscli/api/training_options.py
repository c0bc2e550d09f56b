"""The options of `basiscli.train`: the same checks as those of the command line."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from basiscli.analysis.measures import require_whole
from basiscli.data.axes import CHANNELS
from basiscli.errors import BadInput
from basiscli.experiments.training import LOG, TrainingJob
from basiscli.nn.builder import NORMS
from basiscli.nn.models import ACTIVATIONS, MODELS, POOL, POOLINGS, SHORTCUTS
from basiscli.training.optim import SCHEDULES, SLOTS
from basiscli.training.recipe import STREAMS

KNOWN = frozenset(field.name for field in fields(TrainingJob))
CHOICES = {
    "model": tuple(MODELS), "activation": ACTIVATIONS, "norm": NORMS, "pooling": tuple(POOLINGS), "shortcut": SHORTCUTS,
    "optimizer": tuple(SLOTS), "schedule": SCHEDULES, "channels": CHANNELS,
}  # fmt: skip
# Whole numbers, with the least value of each.
WHOLE = {"depth": 1, "epochs": 0, "batch_size": 1, "freeze_prefix": 1, "checkpoint_every": 0, "seed_batch": 1}
# Numbers above 0; from 0 on; from 0 to below 1.
POSITIVE, NOT_NEGATIVE = ("width", "lr", "clip"), ("weight_decay", "warmup")
RATES = ("momentum", "dropout", "label_smoothing")
LISTS = ("hidden", "layout", "vary", "start_weights", "freeze", "keep")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as TrainingJob takes them: lists as tuples, a single word as a list of one.

    Raises BadInput, with the name, for an unknown option, and for a value that an option cannot have.
    """
    listed = {name: _listed(value) if name in LISTS else value for name, value in options.items()}
    for name, value in listed.items():
        if name not in KNOWN:
            raise BadInput(f"`{name}`: no option of training; those of `basiscli train` are in docs/commands.md")
        if value is None:
            continue
        if name in CHOICES and value not in CHOICES[name]:
            raise BadInput(f"`{name}` is {value!r}: choose {' or '.join(map(repr, CHOICES[name]))}")
        if name in WHOLE:
            require_whole(name, value, WHOLE[name])
        if name in (*POSITIVE, *NOT_NEGATIVE, *RATES):
            _require_number(name, value)
        if name in ("hidden", "layout"):
            for width in value:
                if width != POOL or name == "hidden":
                    require_whole(name, width, 1)
        if name == "keep" and value != (LOG,):
            for epoch in value:
                require_whole(name, epoch, 0)
        if name == "vary" and (unknown := set(value) - set(STREAMS)):
            raise BadInput(f"`vary` has {unknown.pop()!r}: choose from {', '.join(STREAMS)}")
    return listed | ({"keep": LOG} if listed.get("keep") == (LOG,) else {})


def _listed(value: Any) -> Any:
    if value is None:
        return None
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _require_number(name: str, value: Any) -> None:
    least, below = (0, 1) if name in RATES else (0, math.inf)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < below or (name in POSITIVE and value == 0):
        said = "above 0" if name in POSITIVE else "from 0 on" if name in NOT_NEGATIVE else "from 0 to below 1"
        raise BadInput(f"`{name}` is {value!r}: give a number {said}")
