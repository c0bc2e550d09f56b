"""The layout of an imported network as its file stores it, and the module of each node.

Of a residual network the file has the patterns (`Layout.stored`); of a plain stack the module of each part, in
`modules`. An export of a plain stack of ours has the module of each node, in `nodes`. A fixed map (docs/rotate.md) that
cannot be folded has the name of the module before it, with its tap.
"""

import re
from collections.abc import Mapping
from typing import Any

from basiscli.foreign.layouts import Layout
from basiscli.nn.fixed_maps import fixed_maps
from basiscli.nn.graph import Network
from basiscli.nn.sequential import part_names

# The tensor of a fixed map: the module, and whether it stands before or after the nonlinearity.
ROTATED = re.compile(r"(.+)_rotated_(pre|post)\.weight")


def places_of(stored: Mapping[str, Any], network: Network) -> dict[str, str]:
    """Return the module of each node of a network that holds weights, fixed maps included."""
    named = Layout(**stored).places(network) if "names" in stored else _named(stored, network)
    holding = {node.name for node in network.nodes if any(weight.axes for weight in node.weights.values())}
    places = {node: module for node, module in named.items() if node in holding}
    taps = network.architecture.get("rotated", {})
    for node in fixed_maps(network):
        place = node.name.removesuffix("/rotation")
        places[node.name] = f"{places.get(place, place.replace('/', '_'))}_rotated_{taps[place]}"
    return places


def shown_of(stored: Mapping[str, Any], network: Network) -> dict[str, str]:
    """Return, by node, the modules whose outputs can be compared with those of nodes."""
    return Layout(**stored).shown(network) if "names" in stored else _named(stored, network)


def _named(stored: Mapping[str, Any], network: Network) -> dict[str, str]:
    """Return the module of each part of a stack that has one; fixed maps between them are no parts."""
    turned = {node.name for node in fixed_maps(network)}
    plain = [node.name for node in network.nodes if node.name not in turned]
    if "nodes" in stored:
        return {node: module for node, module in stored["nodes"].items() if node in plain}
    names = part_names(network.architecture["parts"], plain)
    pairs = reversed(list(zip(names, stored["modules"], strict=True)))  # of two parts of a node the first has its name
    return {node: module for node, module in pairs if module is not None}
