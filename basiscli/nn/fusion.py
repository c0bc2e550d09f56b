"""Fusion: neighbouring nodes of a graph become one node, so their work takes a single pass over memory."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from basiscli.nn.ops import add, batchnorm, batchnorm_relu, dense, pointwise
from basiscli.nn.ops.node import Node


def readers(nodes: Collection[Node]) -> Counter:
    """Return the number of nodes that read the output of each node, by the name of the node that is read."""
    return Counter(name for node in nodes for name in node.inputs)


def fused(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes with each ReLU merged into the node before it, wherever one of the rules below applies.

    A chain is fused only where each of its outputs has one reader. Intermediate outputs do not exist afterwards, so
    use the result only when no activation is kept.
    """
    by_name, uses = {node.name: node for node in nodes}, readers(nodes)
    for relu in nodes:
        if relu.op is pointwise and relu.options["function"] == "relu":
            _fuse_batchnorm(relu, by_name, uses)
            _fuse_dense(relu, by_name, uses)
    for node in list(by_name.values()):
        _fuse_mask(node, by_name, uses)
    return tuple(by_name.values())


def _fuse_batchnorm(relu: Node, nodes: dict[str, Node], uses: Counter) -> None:
    """Replace a ReLU and the BatchNorm that feeds it, in place. Do nothing if another op feeds the ReLU."""
    norm, chain, skip = nodes.get(relu.inputs[0]), list(relu.inputs[:1]), []
    if norm is not None and norm.op is add:
        # Take the normalised summand, or the first summand if both are normalised.
        summand, *skip = sorted(norm.inputs, key=lambda name: name not in nodes or nodes[name].op is not batchnorm)
        norm = nodes.get(summand)
        chain.append(summand)
    if norm is None or norm.op is not batchnorm or any(uses[name] > 1 for name in chain):
        return
    for name in chain:
        del nodes[name]
    inputs = (*norm.inputs, *skip)
    nodes[relu.name] = Node(relu.name, batchnorm_relu, inputs, {}, norm.weights, relu.shape, norm.name)


def _fuse_dense(relu: Node, nodes: dict[str, Node], uses: Counter) -> None:
    """Replace a ReLU and the dense map that feeds it by one dense map with a rectified output, in place."""
    before = nodes.get(relu.inputs[0])
    if before is not None and before.op is dense and uses[before.name] == 1:
        del nodes[before.name]
        nodes[relu.name] = replace(
            relu, op=dense, inputs=before.inputs, options={"rectify": True}, weights=before.weights, owner=before.name
        )


def _fuse_mask(node: Node, nodes: dict[str, Node], uses: Counter) -> None:
    """Let a dense map mask the gradient of the rectified dense map below, if no other node reads the lower map.

    The upper map sets its dx to 0 where its input is 0, so the lower map needs no pass of its own for the mask.
    """
    below = nodes.get(node.inputs[0])
    if below is None or below.op is not dense or not below.options.get("rectify"):
        return
    if node.op is dense and uses[below.name] == 1:
        nodes[node.name] = replace(nodes[node.name], options={**node.options, "masks": True})
        nodes[below.name] = replace(below, options={**below.options, "masked": True})
