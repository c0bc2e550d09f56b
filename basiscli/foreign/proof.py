"""Proof of an import: the same logits as PyTorch's, on inputs that PyTorch was shown.

A probe is an .npz file with `inputs` (N, C, H, W) or (N, values) as the network saw them, `logits` (N, classes), and
outputs of modules by their names, which tell where networks part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from basiscli.alignment.same_function import logit_difference
from basiscli.errors import BadInput
from basiscli.files import arrays as files
from basiscli.foreign.arrays import Axes
from basiscli.foreign.checkpoints import FLOATS, Tensor, listed, values
from basiscli.nn import cost
from basiscli.nn.graph import predict

INPUTS, LOGITS = "inputs", "logits"
# The largest difference of a value, over the largest value.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Probe:
    """What PyTorch was shown, what it answered, and the outputs of its modules by name."""

    path: str
    inputs: np.ndarray
    logits: np.ndarray
    outputs: Mapping[str, Tensor]


def read_probe(path: str) -> Probe:
    """Return the probe in an .npz file. Raises BadInput if it is damaged or lacks inputs or logits."""
    found = {
        name: Tensor(array.shape, array.dtype.name, partial(array.read, 0, array.shape[0] if array.shape else 1))
        for name, array in files.of_numpy(path).items()
    }
    for name in (INPUTS, LOGITS):
        if name not in found or not found[name].shape or 0 in found[name].shape:
            raise BadInput(f"{path}: no array {name}; docs/import.md has the lines of PyTorch that write a probe")
    inputs, logits = (values(path, name, found[name]) for name in (INPUTS, LOGITS))
    if inputs.ndim not in (2, 4) or logits.ndim != 2 or len(inputs) != len(logits):
        raise BadInput(f"{path}: inputs {inputs.shape} and logits {logits.shape}, not (N, C, H, W) and (N, classes)")
    outputs = {name: tensor for name, tensor in found.items() if tensor.dtype in FLOATS}
    return Probe(path, inputs, logits, outputs)


def prove(name: str, axes: Axes, arrays: Mapping[str, np.ndarray], shown: Mapping[str, str], probe: Probe) -> dict:
    """Return the proof as a record: the largest relative difference of a logit, and the number of inputs.

    name: of the checkpoint. arrays: without seed axis. shown: the module of each node. Raises BadInput if the
    difference is above TOLERANCE, with the first module whose output differs by more, if the probe has any.
    """
    network = axes.network
    images = _images(network.architecture["input_shape"], probe)
    if probe.logits.shape[1] != network.architecture["classes"]:
        raise BadInput(f"{probe.path}: {probe.logits.shape[1]} logits, {name} has {network.architecture['classes']}")
    compared = {node: module for node, module in shown.items() if module in probe.outputs}
    with_seed = {path: array[None] for path, array in arrays.items()}
    size = cost.evaluated_at_once(network)
    parts = [
        predict(network, with_seed, images[:, first : first + size], keep=compared)
        for first in range(0, images.shape[1], size)
    ]
    difference = logit_difference(probe.logits, np.concatenate([logits[0] for logits, _ in parts]))
    if difference <= TOLERANCE:
        return {"largest_difference": difference, "inputs": len(probe.logits), "probe": probe.path}
    where = ""
    for node in (node.name for node in network.nodes if node.name in compared):
        ours = np.concatenate([kept[node][0] for _, kept in parts])
        apart = _difference(axes, node, ours, compared[node], probe)
        if not apart <= TOLERANCE:
            where = f"the first output that differs is that of {compared[node]}, by {apart:.1e}"
            break
    if compared and not where:
        where = f"the outputs of {listed(compared.values())} agree"
    raise BadInput(
        f"{name}: its logits differ from those of {probe.path} by {difference:.1e} of the largest; "
        f"{where or 'outputs of modules in the probe would tell where (docs/import.md)'}; nothing was written"
    )


def _images(shape: tuple[int, ...], probe: Probe) -> np.ndarray:
    """Return the inputs of a probe as images (1, N, H, W, C)."""
    height, width, channels = shape
    if probe.inputs.shape[1:] not in ((channels, height, width), (channels * height * width,)):
        raise BadInput(
            f"{probe.path}: inputs {probe.inputs.shape} do not fit images of {height}x{width}x{channels}; name these "
            "with `image`, or write the probe on them"
        )
    images = probe.inputs.reshape(-1, channels, height, width)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))[None]


def _difference(axes: Axes, node: str, ours: np.ndarray, module: str, probe: Probe) -> float:
    """Return the largest difference of a module's outputs, over the largest; infinite for another shape."""
    theirs = values(probe.path, module, probe.outputs[module])
    if theirs.ndim == 4:
        theirs = theirs.transpose(0, 2, 3, 1)
    if ours.ndim == 4 and theirs.ndim == 2 and ours[0].size == len(theirs[0]):
        theirs = theirs.reshape(len(theirs), ours.shape[3], *ours.shape[1:3]).transpose(0, 2, 3, 1)
    if ours.ndim == 2 and theirs.ndim == 4 and theirs[0].size == len(ours[0]):
        theirs = theirs.reshape(len(theirs), -1)
    if theirs.shape != ours.shape:
        return float("inf")
    return logit_difference(theirs[..., axes.order(node, theirs.shape[-1])], ours)
