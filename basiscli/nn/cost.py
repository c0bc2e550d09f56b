"""The cost of a network, computed from its description alone: parameters, multiply-adds, memory."""

from math import prod

from basiscli.nn.graph import Network

FLOAT_BYTES = 4
# Evaluation runs as many images at once as give about this many floats of the largest activation, and at most
# EVALUATED images. Both are constants because they fix the order of the sums behind a reported loss.
EVALUATION_FLOATS = 1 << 22
EVALUATED = 1000


def parameters(network: Network) -> int:
    """Return the number of trainable numbers of one seed."""
    return sum(prod(network.weights[path].shape) for path in network.trained)


def multiply_adds(network: Network) -> int:
    """Return the multiply-adds of the maps in a forward pass of one image; a training step takes about three times."""
    return sum(prod(node.shape[:-1]) * prod(node.weights["w"].shape) for node in network.nodes if "w" in node.weights)


def activations(network: Network) -> int:
    """Return the number of floats that a training step keeps for one image: the input and every node's output."""
    return prod(network.architecture["input_shape"]) + sum(prod(node.shape) for node in network.nodes)


def largest(network: Network) -> int:
    """Return the number of floats in the largest activation of one image."""
    return max(prod(network.architecture["input_shape"]), *(prod(node.shape) for node in network.nodes))


def layer_activations(network: Network) -> int:
    """Return the number of floats in the activations of all layers, for one image and one tap."""
    shapes = {node.name: node.shape for node in network.nodes}
    return sum(prod(shapes[layer.post]) for layer in network.layers.values())


def evaluated_at_once(network: Network) -> int:
    """Return the number of images that evaluation runs at once."""
    return max(1, min(EVALUATED, EVALUATION_FLOATS // largest(network)))


def training_bytes(network: Network, batch_size: int, slots: int) -> int:
    """Return an estimate of the bytes of memory that one seed takes in training.

    The sum of two parts. First: parameters, gradient and the optimiser's `slots`. Second: the activations of a batch
    and two more of the largest activation; or the activations of an evaluation, if they are larger.
    """
    step = batch_size * (activations(network) + 2 * largest(network))
    evaluation = 4 * evaluated_at_once(network) * largest(network)
    return FLOAT_BYTES * ((2 + slots) * parameters(network) + max(step, evaluation))
