"""Rotated representations: can training undo a rotation?"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from basiscli.analysis.measures import require_whole
from basiscli.analysis.random_maps import KINDS, ORTHOGONAL
from basiscli.api.networks import TrainedNetwork
from basiscli.api.tables import Table
from basiscli.errors import BadInput
from basiscli.experiments.rotation import rotate_networks
from basiscli.experiments.rotation_experiment import Experiment
from basiscli.experiments.rotation_sites import RETRAINED, STARTS, TAPS, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "layer", "kind", "over", "power", "networks", "failed", "penalty_accuracy", "penalty_accuracy_low",
    "penalty_accuracy_high", "penalty_train_loss",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Rotations:
    """The penalties of rotations over the identity, layer by layer: the result of `rotate`.

    records: one for each layer and kind of M, as `basiscli rotate` prints them (docs/rotate.md has the fields)

    >>> import basiscli
    >>> networks = basiscli.train("digits", hidden=(16,), epochs=1)
    >>> result = basiscli.rotate(networks, kinds=("orthogonal",), repeats=1, epochs=1)
    >>> [(record["kind"], record["over"]) for record in result.records]
    [('orthogonal', 'identity'), ('identity', 'identity')]
    """

    records: tuple[Mapping[str, Any], ...]

    def table(self) -> Table:
        """Return a row for each record, with the penalties in accuracy and training loss."""
        return Table(tuple({name: record[name] for name in COLUMNS} for record in self.records))

    def plot(self) -> "Figure":
        """Return a figure: the penalties against depth and, with several powers, against the power."""
        from basiscli.plots.experiments import rotations_figure

        return rotations_figure(list(self.records))

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def rotate(
    networks: Sequence[TrainedNetwork | str | Path],
    *,
    layers: str | Sequence[str] = "*",
    kinds: Sequence[str] | None = None,
    powers: Sequence[float] = (1.0,),
    tap: str = "pre",
    retrain: str = "downstream",
    start: str | None = None,
    cumulative: bool = False,
    repeats: int = 3,
    epochs: int | None = None,
    lr: float | None = None,
    clip: float = 1.0,
    augment: str | None = None,
    dataset: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
) -> Rotations:
    """Put a fixed map M over the units of layers, train again, and return the penalties of M over the identity.

    penalty = score with the identity - score with M, both trained alike; positive where M is worse. Intervals are over
    networks and repeats.

    networks:   of one architecture and data set, trained to the end, or their files
    layers:     globs of layers
    kinds:      of M, some of "orthogonal", "permutation", "signed-permutation", "relu-symmetry", "identity"; None takes
                orthogonal, permutation and, where it is a symmetry, relu-symmetry
    powers:     of orthogonal M, above 0 and at most 1
    tap:        M "pre" the nonlinearity or "post"
    retrain:    "downstream" of M, "upstream", or "none"
    start:      "continue" from the trained weights or "reinit"; None: reinit for an mlp
    cumulative: rotate every layer up to the chosen one
    repeats:    draws of M for a network, 1 or more
    epochs, lr, augment: those of the networks' own training if None; clip: the bound of a network's gradient norm
    dataset:    where the data set is now, if it has moved
    out:        the folder for every rotated network; networks that it holds already are used again. None keeps no file
    force:      train again the networks that the folder holds

    Raises BadInput for networks, layers or kinds that do not fit together, before anything is trained. Source: Brown,
    Vyas and Bansal 2023; the paired arms are ours (docs/rotate.md).

    >>> import basiscli
    >>> networks = basiscli.train("digits", hidden=(16,), epochs=1)
    >>> result = basiscli.rotate(networks, layers="hidden1", kinds=("permutation",), repeats=1, epochs=1)
    >>> result.table()[0]["layer"], abs(result.records[0]["penalty_train_loss"]) < 0.5
    ('hidden1', True)
    """
    power = tuple(map(float, powers))
    protocol = Protocol(kinds, power, tap, retrain, start, cumulative, repeats, epochs, lr, clip, augment)
    _require_possible(protocol)
    with _files(networks) as paths, ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory()) if out is None else str(out)
        globs = (layers,) if isinstance(layers, str) else tuple(layers)
        experiment = Experiment.of(paths, globs, protocol, dataset, folder, "basiscli.rotate(...)")
        return Rotations(tuple(rotate_networks(experiment, force)))


def _require_possible(protocol: Protocol) -> None:
    """Raise BadInput for an option that has no such value."""
    choices = {"tap": TAPS, "retrain": RETRAINED, "start": (*STARTS, None)}
    chosen = [(name, getattr(protocol, name), known) for name, known in choices.items()]
    for name, value, known in [*chosen, *(("kinds", kind, KINDS) for kind in protocol.kinds or ())]:
        if value not in known:
            raise BadInput(f"`{name}` is {value!r}: choose {' or '.join(map(repr, known))}")
    require_whole("repeats", protocol.repeats, 1)
    turned = protocol.kinds is None or ORTHOGONAL in protocol.kinds
    if any(not 0 < power <= 1 for power in protocol.powers) or not (turned or protocol.powers == (1.0,)):
        raise BadInput(f"`powers` is {protocol.powers!r}: give powers of orthogonal maps, above 0 and at most 1")


@contextmanager
def _files(networks: Sequence[TrainedNetwork | str | Path]) -> Iterator[list[str]]:
    """Yield the paths of networks; a network without a file gets a temporary file."""
    if isinstance(networks, TrainedNetwork | str | Path) or not networks:
        raise BadInput("`networks` is no list of networks: give one or more")
    with TemporaryDirectory() as folder:
        paths = []
        for k, network in enumerate(networks):
            if not isinstance(network, TrainedNetwork):
                paths.append(str(network))
            elif network.path is not None and Path(network.path).exists():
                paths.append(network.path)
            else:
                paths.append(str(Path(folder) / f"network{k}.h5"))
                network.save(paths[-1])
        yield paths
