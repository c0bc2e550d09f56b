"""Where programs keep the maps of residual networks: tables of patterns, from our nodes to their modules.

On our side {n} is the number of a block through the network, from 1; on theirs {stage} counts from 1 and {block}, the
place of the block in its stage, from 0. {k} is the number of a map in its block. A new layout is a row in `LAYOUTS`, or
a file that `layout` names (docs/import.md).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from basiscli.errors import BadInput
from basiscli.nn.graph import Network

RESNET, WIDERESNET = "resnet", "wideresnet"
# In wideresnet the first normalisation of a block belongs to the layer before it (`nn.models.wideresnet`).
BEFORE, LAST = "block{n}/before", "last"
MAPS_IN_BLOCK = (1, 2, 3)
PLACEHOLDERS = {"stage": r"(?P<stage>[1-9]\d{0,5})", "block": r"(?P<block>\d{1,6})", "k": r"(?P<k>[123])"}


@dataclass(frozen=True)
class Layout:
    """A family of networks in another program.

    model: which model of ours it is. names: the module of each node that holds weights. outputs: the module whose
    output is that of a layer. choices: what its networks are where names and shapes do not tell. centred: shortcut A
    puts its zeros on both sides of the units. prefix: what stands before every name. marks: tensors that every such
    network has, and others with the same names do not.
    """

    name: str
    model: str
    names: Mapping[str, str]
    outputs: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    centred: bool = False
    prefix: str = ""
    marks: tuple[str, ...] = ()

    def stored(self) -> dict[str, Any]:
        """Return the layout as plain data."""
        return asdict(self)

    def places(self, network: Network) -> dict[str, str]:
        """Return the module of each node of a network that holds weights."""
        nodes = {node.name for node in network.nodes}
        return {node: self.prefix + module for node, module in self._pairs(network, self.names) if node in nodes}

    def shown(self, network: Network) -> dict[str, str]:
        """Return the module that gives the output of a node, for nodes whose output a module gives."""
        taps = {name: layer.post for name, layer in network.layers.items()}
        pairs = self._pairs(network, self.outputs)
        return self.places(network) | {taps[layer]: self.prefix + module for layer, module in pairs if layer in taps}

    def _pairs(self, network: Network, patterns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        blocks = list(block_places(network.architecture))
        for ours, theirs in patterns.items():
            for n, (stage, block) in enumerate(blocks if "{n}" in ours else blocks[:1], 1):
                for k in MAPS_IN_BLOCK if "{k}" in ours else MAPS_IN_BLOCK[:1]:
                    yield (
                        _node(ours, n, k, len(blocks)),
                        theirs.replace("{stage}", str(stage)).replace("{block}", str(block)).replace("{k}", str(k)),
                    )

    def module(self, ours: str, stage: int) -> str:
        """Return the module of a name of ours in the first block of a stage."""
        k = re.search(r"\d$", ours)
        theirs = self.names.get(ours) or self.names.get(re.sub(r"\d$", "{k}", ours), ours)
        filled = theirs.replace("{stage}", str(stage)).replace("{block}", "0")
        return self.prefix + (filled.replace("{k}", k[0]) if k else filled)

    def patterns(self) -> dict[str, re.Pattern]:
        """Return a pattern of a whole module name for each of our names."""
        return {ours: _compiled(self.prefix + theirs) for ours, theirs in self.names.items()}


def block_places(architecture: Mapping) -> Iterator[tuple[int, int]]:
    """Yield (stage from 1, place in the stage from 0) of each block of a residual network."""
    rest = {RESNET: 2, WIDERESNET: 4}[architecture["model"]]
    counts = architecture.get("stage_blocks") or [(architecture["depth"] - rest) // 6] * 3
    for stage, count in enumerate(counts, 1):
        for block in range(count):
            yield stage, block


def _node(ours: str, n: int, k: int, blocks: int) -> str:
    """Return the node of ours that a pattern means, for block n of a network and its k-th map."""
    if ours.startswith(BEFORE):
        place = "stem" if n == 1 else f"block{n - 1}/sum"
        return place + ours.removeprefix(BEFORE)
    if ours.startswith(f"{LAST}/"):
        return f"block{blocks}/sum{ours.removeprefix(LAST)}"
    return ours.replace("{n}", str(n)).replace("{k}", str(k))


def _compiled(theirs: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", theirs)
    return re.compile("".join(PLACEHOLDERS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def _residual(stem: str, shortcut: str, output: str) -> dict[str, str]:
    """Return the names that torchvision and most others use, with their words for the shortcut and the last map."""
    return {
        "stem": stem,
        "stem/norm": "bn1",
        "block{n}/conv{k}": "layer{stage}.{block}.conv{k}",
        "block{n}/conv{k}/norm": "layer{stage}.{block}.bn{k}",
        "block{n}/shortcut": f"layer{{stage}}.{{block}}.{shortcut}.0",
        "block{n}/shortcut/norm": f"layer{{stage}}.{{block}}.{shortcut}.1",
        "output": output,
    }


_BLOCKS = {"block{n}/sum": "layer{stage}.{block}"}
_ALL = (
    # torchvision's resnet18 to resnet152, and CIFAR networks in its words.
    Layout("torchvision", RESNET, _residual("conv1", "downsample", "fc"), _BLOCKS, {"shortcut": "B"}),
    # CIFAR networks whose shortcut is `shortcut` and whose last map is `linear`; without shortcut tensors it is option
    # A with a quarter of the new units as zeros on each side.
    Layout("cifar", RESNET, _residual("conv1", "shortcut", "linear"), _BLOCKS, {"shortcut": "A"}, centred=True),
    # CIFAR networks of option A with zeros behind, stages and maps named by underscores.
    Layout(
        "stages",
        RESNET,
        {
            "stem": "conv_1_3x3",
            "stem/norm": "bn_1",
            "block{n}/conv1": "stage_{stage}.{block}.conv_a",
            "block{n}/conv1/norm": "stage_{stage}.{block}.bn_a",
            "block{n}/conv2": "stage_{stage}.{block}.conv_b",
            "block{n}/conv2/norm": "stage_{stage}.{block}.bn_b",
            "output": "classifier",
        },
        {"block{n}/sum": "stage_{stage}.{block}"},
        {"shortcut": "A"},
    ),
    # Wide residual networks with the paper's shortcut, from the activations.
    Layout(
        "wide",
        WIDERESNET,
        {
            "stem": "conv1",
            f"{BEFORE}/norm": "block{stage}.layer.{block}.bn1",
            "block{n}/conv1": "block{stage}.layer.{block}.conv1",
            "block{n}/conv1/norm": "block{stage}.layer.{block}.bn2",
            "block{n}/conv2": "block{stage}.layer.{block}.conv2",
            "block{n}/shortcut": "block{stage}.layer.{block}.convShortcut",
            f"{LAST}/norm": "bn1",
            "output": "fc",
        },
        choices={"bias": False, "shortcut_of": "activations"},
    ),
    # Wide residual networks whose convolutions have biases and whose shortcut reads the sum before.
    Layout(
        "wide-biased",
        WIDERESNET,
        {
            "stem": "conv1",
            f"{BEFORE}/norm": "layer{stage}.{block}.bn1",
            "block{n}/conv1": "layer{stage}.{block}.conv1",
            "block{n}/conv1/norm": "layer{stage}.{block}.bn2",
            "block{n}/conv2": "layer{stage}.{block}.conv2",
            "block{n}/shortcut": "layer{stage}.{block}.shortcut.0",
            f"{LAST}/norm": "bn1",
            "output": "linear",
        },
        choices={"bias": True, "shortcut_of": "sums"},
        marks=("conv1.bias", "bn1.weight"),
    ),
)
LAYOUTS = {layout.name: layout for layout in _ALL}


def read_layout(path: str | Path) -> Layout | dict[str, Any]:
    """Return the layout in a TOML file: one of residual networks (`names`), or a dict with a list of `modules`.

    Raises BadInput for a file that is missing or no TOML, and for keys and placeholders that do not exist.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path}: no layout ({' '.join(str(error).split())})") from error
    if "modules" in table:
        return _sequence(path, table)
    known = {"model", "names", "outputs", "choices", "centred", "prefix"}
    if unknown := set(table) - known:
        raise BadInput(f"{path}: no key {sorted(unknown)[0]}; a layout has {', '.join(sorted(known))}, or modules")
    if table.get("model") not in (RESNET, WIDERESNET) or not isinstance(table.get("names"), dict):
        raise BadInput(f'{path}: say model = "{RESNET}" or "{WIDERESNET}", and the table [names]; or modules')
    for ours, theirs in (*table["names"].items(), *table.get("outputs", {}).items()):
        placeholders = set(re.findall(r"\{(\w*)\}", f"{theirs}"))
        if not isinstance(theirs, str) or not placeholders <= set(PLACEHOLDERS):
            raise BadInput(f"{path}: {ours} = {theirs!r}: placeholders are {', '.join(PLACEHOLDERS)}")
        if ("{n}" in ours) != ({"stage", "block"} <= placeholders) or ("{k}" in ours) != ("k" in placeholders):
            raise BadInput(f"{path}: {ours} = {theirs!r}: {{n}} needs {{stage}} and {{block}}, {{k}} needs {{k}}")
    return Layout(
        str(path), table["model"], table["names"], table.get("outputs", {}), table.get("choices", {}),
        bool(table.get("centred", False)), str(table.get("prefix", "")),
    )  # fmt: skip


def _sequence(path: str | Path, table: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(table) - {"modules", "prefix"}:
        raise BadInput(f"{path}: no key {sorted(unknown)[0]} beside modules; there is prefix")
    if not isinstance(table["modules"], list) or not all(isinstance(item, str) for item in table["modules"]):
        raise BadInput(f'{path}: modules is a list of texts, such as ["conv1: Conv2d(padding=1)", "ReLU"]')
    return {"modules": table["modules"], "prefix": str(table.get("prefix", ""))}
