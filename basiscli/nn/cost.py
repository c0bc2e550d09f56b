"""What a network costs, from its description alone: parameters, multiply-adds, memory."""

from math import prod

from basiscli.nn.graph import Network

FLOAT_BYTES = 4
# Evaluation shows a network about this many floats of its largest activation at once, and at most EVALUATED images.
# Constants: they fix the order of the sums behind a reported loss.
EVALUATION_FLOATS = 1 << 22
EVALUATED = 1000


def parameters(network: Network) -> int:
    """Return the number of trainable numbers of one seed."""
    return sum(prod(network.weights[path].shape) for path in network.trained)


def multiply_adds(network: Network) -> int:
    """Return the multiply-adds of the maps in a forward pass of one image; a training step takes about three times."""
    return sum(prod(node.shape[:-1]) * prod(node.weights["w"].shape) for node in network.nodes if "w" in node.weights)


def activations(network: Network) -> int:
    """Return the floats that a training step keeps for one image: its input and every node's output."""
    return prod(network.architecture["input_shape"]) + sum(prod(node.shape) for node in network.nodes)


def largest(network: Network) -> int:
    """Return the floats of the largest activation of one image."""
    return max(prod(network.architecture["input_shape"]), *(prod(node.shape) for node in network.nodes))


def layer_activations(network: Network) -> int:
    """Return the floats of all layers' activations of one image, at one tap."""
    shapes = {node.name: node.shape for node in network.nodes}
    return sum(prod(shapes[layer.post]) for layer in network.layers.values())


def evaluated_at_once(network: Network) -> int:
    """Return how many images evaluation shows a network at once."""
    return max(1, min(EVALUATED, EVALUATION_FLOATS // largest(network)))


def training_bytes(network: Network, batch_size: int, slots: int) -> int:
    """Return about how much memory one seed takes in training.

    Parameters, gradient and the optimiser's `slots`; a batch's activations, and two of the largest in flight; or, if
    more, an evaluation.
    """
    step = batch_size * (activations(network) + 2 * largest(network))
    evaluation = 4 * evaluated_at_once(network) * largest(network)
    return FLOAT_BYTES * ((2 + slots) * parameters(network) + max(step, evaluation))
