"""Fixed maps in a network: y = M x over the units of a layer, where training never changes M (docs/rotate.md)."""

from collections.abc import Mapping
from dataclasses import replace

from basiscli.nn.graph import Network
from basiscli.nn.ops import batchnorm, fixed_map, layernorm
from basiscli.nn.ops.node import Node


def rotated(network: Network, places: Mapping[str, str]) -> Network:
    """Return a network with a fixed map y = M x at every place, as PLACE/rotation/w. M is the identity at first.

    {"hidden1": "pre"} puts M after the map `hidden1`; if a normalisation is the only reader of this map, M comes after
    the normalisation. {"hidden1": "post"} puts M after the nonlinearity of the layer `hidden1`. Every reader of the
    rotated node then reads M x, and so do the taps of layers. Raises ValueError for any other place or tap.
    """
    for place, tap in places.items():
        network = _with_map(network, place, rotates(network, place, tap))
    return replace(network, architecture=network.architecture | {"rotated": dict(places)})


def rotates(network: Network, place: str, tap: str) -> Node:
    """Return the node whose output the fixed map at a place reads. Raises ValueError if no such node exists."""
    nodes = {node.name: node for node in network.nodes}
    if tap == "post" and place in network.layers:
        return nodes[network.layers[place].post]
    if tap != "pre" or "w" not in getattr(nodes.get(place), "weights", ()) or place == network.nodes[-1].name:
        raise ValueError(f"nothing to rotate at {place} {tap}")
    readers = [node for node in network.nodes if place in node.inputs]
    return readers[0] if len(readers) == 1 and readers[0].op in (batchnorm, layernorm) else nodes[place]


def _with_map(network: Network, place: str, source: Node) -> Network:
    """Return a network with a fixed map after the node `source`."""
    fixed = Node(
        f"{place}/rotation", fixed_map, (source.name,), weights=fixed_map.weights(source.shape[-1]), shape=source.shape
    )

    def renamed(name: str) -> str:
        return fixed.name if name == source.name else name

    nodes = []
    for node in network.nodes:
        nodes.append(replace(node, inputs=tuple(map(renamed, node.inputs))))
        if node.name == source.name:
            nodes.append(fixed)
    layers = {
        name: replace(layer, pre=renamed(layer.pre), post=renamed(layer.post)) for name, layer in network.layers.items()
    }
    return replace(network, nodes=tuple(nodes), layers=layers)


def fixed_maps(network: Network) -> list[Node]:
    """Return the nodes of a network that are fixed maps."""
    return [node for node in network.nodes if node.op is fixed_map]
