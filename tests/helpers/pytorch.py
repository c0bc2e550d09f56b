"""PyTorch as a peer: the same graph, walked with PyTorch's functions."""

from basiscli.nn.graph import INPUT, Network


def logits_of(torch, network: Network, p: dict, images, training: bool = True):
    """Return the logits (N, K) of a network in training or in use, from weights and state without the seed axis.

    images (N, H, W, C). The running statistics in `p` move as they do in training.
    """
    f, values = torch.nn.functional, {INPUT: images.permute(0, 3, 1, 2)}
    for node in network.nodes:
        inputs = [values[name] for name in node.inputs]
        local = {name: p[f"{node.name}/{name}"] for name in node.weights}
        options = {**node.options, "training": training}
        values[node.name] = OPS[node.op.__name__.rpartition(".")[2]](f, local, options, *inputs)
    return values[network.nodes[-1].name]


def _convolution(f, p, options, x):
    return f.conv2d(x, p["w"].permute(3, 2, 0, 1), p.get("b"), options["stride"], options["padding"])


def _batchnorm(f, p, options, x):
    statistics = p["mean"], p["variance"], p["scale"], p["shift"]
    return f.batch_norm(x, *statistics, training=options["training"], momentum=0.1, eps=1e-5)


def _layernorm(f, p, options, x):
    last = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    y = f.layer_norm(last, p["scale"].shape, p["scale"], p["shift"], 1e-5)
    return y.permute(0, 3, 1, 2) if x.ndim == 4 else y


def _subsample(f, p, options, x):
    picked = x[:, :, :: options["stride"], :: options["stride"]]
    return f.pad(picked, (0, 0, 0, 0, 0, options["units"] - x.shape[1]))


OPS = {
    "add": lambda f, p, options, x, skip: x + skip,
    "average_pool": lambda f, p, options, x: f.avg_pool2d(x, options["size"]),
    "batchnorm": _batchnorm,
    "convolution": _convolution,
    "dense": lambda f, p, options, x: x @ p["w"] + p["b"],
    "flatten": lambda f, p, options, x: x.permute(0, 2, 3, 1).flatten(1),
    "global_pool": lambda f, p, options, x: x.mean(dim=(2, 3)),
    "layernorm": _layernorm,
    "max_pool": lambda f, p, options, x: f.max_pool2d(x, options["size"], options["stride"], options["padding"]),
    "pointwise": lambda f, p, options, x: getattr(f, options["function"])(x),
    "subsample": _subsample,
}
