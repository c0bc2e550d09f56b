"""How to train: the settings that a network file stores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from basiscli.errors import BadInput

STREAMS = ("init", "order", "augment")
# Streams that do not vary from seed to seed are those of this seed.
FIXED_SEED = 0


@dataclass(frozen=True)
class Recipe:
    """How to train: what `basiscli train` takes on the command line, and what a network file stores.

    warmup is in epochs, clip the bound of each network's gradient norm (None: no bound), vary the streams that differ
    from seed to seed, frozen the globs of weights that stay as they start; start_from and start_weights say where
    initial weights were taken from. The first `prefix` layers come from the network with the checksum `donor`
    (`checkpoint.load_prefix`), and are frozen unless start_only.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    clip: float | None = None
    augment: str = "none"
    label_smoothing: float = 0.0
    vary: tuple[str, ...] = STREAMS
    frozen: tuple[str, ...] = ()
    start_from: str | None = None
    start_weights: tuple[str, ...] = ()
    donor: str | None = None
    prefix: int = 0
    start_only: bool = False

    def stored(self) -> dict:
        """Return the recipe as plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_stored(cls, values: Mapping) -> "Recipe":
        """Return the recipe that `stored` gave. Raises BadInput if there is a field that this version does not know."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise BadInput(f"a recipe with unknown fields {', '.join(sorted(unknown))}; upgrade basiscli")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**given)

    def stream_seed(self, stream: str, seed: int) -> int:
        """Return the seed that feeds a stream of a network."""
        return seed if stream in self.vary else FIXED_SEED
