"""Tiny PyTorch networks in the layouts that `basiscli import` knows, and the checkpoints and probes made of them.

`python -m tests.helpers.peers` writes the fixtures anew. Weights are numpy's: all versions of PyTorch get the same.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from basiscli.foreign.importing import ImportRequest, import_network

FIXTURES = Path(__file__).parents[1] / "foreign/fixtures"
# Outputs of modules are kept up to this many values, so that the fixtures stay small.
SAMPLES, KEPT = 2, 1600
# Height, width, channels of the images of each network.
IMAGES = {
    "torchvision-18": (16, 20, 3), "torchvision-18-cifar": (8, 8, 3), "torchvision-50": (16, 16, 3),
    "cifar-a": (8, 8, 3), "cifar-b": (8, 8, 1), "stages": (8, 8, 3), "wide": (8, 8, 3), "wide-biased": (8, 8, 3),
    "vgg": (32, 32, 3), "vgg-bn": (32, 32, 3), "mlp": (3, 4, 3), "mlp-tanh": (1, 5, 1), "convolutions": (9, 10, 3),
    "named": (6, 8, 2),
}  # fmt: skip
# The modules of stacks that a checkpoint does not tell.
MODULES = {
    "convolutions": "Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False),BatchNorm2d(4),ReLU,"
    "MaxPool2d(kernel_size=3, stride=2, padding=1),Conv2d(stride=2),ReLU,AvgPool2d(2),Flatten,Linear",
    "named": "conv1: Conv2d(padding=1),ReLU,MaxPool2d(2),Flatten,fc1: Linear,ReLU,fc2: Linear",
}
CLASSES = 5


def networks(torch: ModuleType) -> dict:
    """Return a module for each name of IMAGES, with its initial weights."""
    nn, f = torch.nn, torch.nn.functional

    class Zeros(nn.Module):
        """Option A: every second position, with units of 0 before and after."""

        def __init__(self, before, after):
            super().__init__()
            self.sides = (0, 0, 0, 0, before, after)

        def forward(self, x):
            return f.pad(x[:, :, ::2, ::2], self.sides)

    class Block(nn.Module):
        """A residual block: `names` are those of maps, normalisations and the shortcut; more than two: a bottleneck."""

        def __init__(self, inputs, width, stride, names, shortcut):
            super().__init__()
            maps, norms, self.skip = names
            outputs = width * (4 if len(maps) == 3 else 1)
            sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
            if len(maps) == 2:
                sizes = [(inputs, width, 3, stride), (width, width, 3, 1)]
            self.parts = list(zip(maps, norms, strict=True))
            for (name, norm), (i, o, kernel, step) in zip(self.parts, sizes, strict=True):
                setattr(self, name, nn.Conv2d(i, o, kernel, step, kernel // 2, bias=False))
                setattr(self, norm, nn.BatchNorm2d(o))
            if (inputs, stride) != (outputs, 1):
                setattr(self, self.skip, shortcut(inputs, outputs, stride))

        def forward(self, x):
            y = x
            for i, (name, norm) in enumerate(self.parts):
                y = getattr(self, norm)(getattr(self, name)(y))
                y = f.relu(y) if i < len(self.parts) - 1 else y
            return f.relu(y + (getattr(self, self.skip)(x) if hasattr(self, self.skip) else x))

    def projection(inputs, outputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def centred(inputs, outputs, stride):
        return Zeros((outputs - inputs) // 2, (outputs - inputs) // 2)

    def behind(inputs, outputs, stride):
        return Zeros(0, outputs - inputs)

    class ResNet(nn.Module):
        def __init__(self, blocks, widths, names, stage, stem, output, shortcut, kernel=3, channels=3):
            super().__init__()
            self.stem, self.kernel, self.output = stem, kernel, output
            setattr(self, stem[0], nn.Conv2d(channels, widths[0], kernel, 1 + kernel // 7, kernel // 2, bias=False))
            setattr(self, stem[1], nn.BatchNorm2d(widths[0]))
            inputs, self.stages = widths[0], []
            for s, (count, width) in enumerate(zip(blocks, widths, strict=True)):
                made = []
                for i in range(count):
                    made.append(Block(inputs, width, 2 if s and not i else 1, names, shortcut))
                    inputs = width * (4 if len(names[0]) == 3 else 1)
                self.stages.append(stage.format(s + 1))
                setattr(self, self.stages[-1], nn.Sequential(*made))
            setattr(self, output, nn.Linear(inputs, CLASSES))

        def forward(self, x):
            x = f.relu(getattr(self, self.stem[1])(getattr(self, self.stem[0])(x)))
            x = f.max_pool2d(x, 3, 2, 1) if self.kernel == 7 else x
            for stage in self.stages:
                x = getattr(self, stage)(x)
            return getattr(self, self.output)(x.mean((2, 3)))

    class WideBlock(nn.Module):
        def __init__(self, inputs, width, stride, bias, skip, activated):
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=bias)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=bias)
            self.skip, self.activated = skip, activated
            if inputs != width:
                conv = nn.Conv2d(inputs, width, 1, stride, bias=bias)
                setattr(self, skip, conv if activated else nn.Sequential(conv))

        def forward(self, x):
            active = f.relu(self.bn1(x))
            y = self.conv2(f.relu(self.bn2(self.conv1(active))))
            skip = getattr(self, self.skip, None)
            return y + (x if skip is None else skip(active if self.activated else x))

    class Layers(nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.layer = nn.Sequential(*blocks)

        def forward(self, x):
            return self.layer(x)

    class WideResNet(nn.Module):
        def __init__(self, stage, output, bias, skip, activated, holder):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=bias), nn.BatchNorm2d(16)
            inputs, self.stages, self.output = 16, [], output
            for s, width in enumerate((4, 8, 16)):
                made = WideBlock(inputs, width, 2 if s else 1, bias, skip, activated)
                self.stages.append(stage.format(s + 1))
                setattr(self, self.stages[-1], holder(made))
                inputs = width
            setattr(self, output, nn.Linear(inputs, CLASSES))

        def forward(self, x):
            x = self.conv1(x)
            for stage in self.stages:
                x = getattr(self, stage)(x)
            return getattr(self, self.output)(f.relu(self.bn1(x)).mean((2, 3)))

    class Vgg(nn.Module):
        def __init__(self, features, classifier):
            super().__init__()
            self.features, self.classifier = nn.Sequential(*features), classifier

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.fc1, self.fc2 = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(48, 6), nn.Linear(6, CLASSES)

        def forward(self, x):
            x = f.max_pool2d(f.relu(self.conv1(x)), 2)
            return self.fc2(f.relu(self.fc1(x.flatten(1))))

    def features(widths, norm):
        made, inputs = [], 3
        for width in widths:
            if width:
                made += [nn.Conv2d(inputs, width, 3, padding=1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
                inputs = width
            else:
                made.append(nn.MaxPool2d(2))
        return made

    basic, bottleneck = (("conv1", "conv2"), ("bn1", "bn2")), (("conv1", "conv2", "conv3"), ("bn1", "bn2", "bn3"))
    there = ("layer{}", ("conv1", "bn1"), "fc", projection)
    cifar = ((1, 1, 1), (4, 8, 16), (*basic, "shortcut"), "layer{}", ("conv1", "bn1"), "linear")
    vgg = (4, 0, 6, 6, 0, 8, 0, 8, 0, 8, 0)
    return {
        "torchvision-18": ResNet((1, 2), (4, 6), (*basic, "downsample"), *there, kernel=7),
        "torchvision-18-cifar": ResNet((2, 1), (4, 8), (*basic, "downsample"), *there),
        "torchvision-50": ResNet((2, 1), (3, 4), (*bottleneck, "downsample"), *there, kernel=7),
        "cifar-a": ResNet(*cifar, centred),
        "cifar-b": ResNet(*cifar, projection, channels=1),
        "stages": ResNet(
            (1, 1, 1), (4, 8, 16), (("conv_a", "conv_b"), ("bn_a", "bn_b"), "downsample"), "stage_{}",
            ("conv_1_3x3", "bn_1"), "classifier", behind,
        ),
        "wide": WideResNet("block{}", "fc", False, "convShortcut", True, lambda block: Layers([block])),
        "wide-biased": WideResNet("layer{}", "linear", True, "shortcut", False, nn.Sequential),
        "vgg": Vgg(
            features(vgg, norm=False),
            nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 6), nn.ReLU(), nn.Dropout(),
                          nn.Linear(6, CLASSES)),
        ),
        "vgg-bn": Vgg(features(vgg, norm=True), nn.Linear(8, CLASSES)),
        "mlp": nn.Sequential(
            nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Dropout(),
            nn.Linear(6, CLASSES),
        ),
        "mlp-tanh": nn.Sequential(
            nn.Linear(5, 8, bias=False), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, CLASSES),
        ),
        "convolutions": nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(4, 6, 2, stride=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, CLASSES),
        ),
        "named": Named(),
    }  # fmt: skip


def made(torch: ModuleType, name: str, net) -> tuple[dict, dict]:
    """Return the state dict of a network with weights of numpy, and its probe: inputs, logits, outputs of modules."""
    rng = np.random.default_rng(list(map(ord, name)))
    state = {}
    for key, value in net.state_dict().items():
        shape = tuple(value.shape)
        if key.endswith("num_batches_tracked"):
            continue
        drawn = rng.standard_normal(shape) * (0.8 / np.sqrt(max(np.prod(shape[1:]), 1)) if len(shape) > 1 else 0.2)
        positive = key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight"))
        state[key] = (np.abs(drawn) + 0.5 if positive else drawn).astype(np.float32)
    net.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    height, width, channels = IMAGES[name]
    shape = (SAMPLES, channels, height, width) if name != "mlp-tanh" else (SAMPLES, channels * height * width)
    probe = {"inputs": rng.standard_normal(shape).astype(np.float32)}
    for key, module in net.named_modules():
        if key:
            module.register_forward_hook(partial(_keep, probe, key))
    with torch.no_grad():
        probe["logits"] = net.eval()(torch.tensor(probe["inputs"])).numpy()
    return state, probe


def request(name: str, checkpoint: str | None = None, **changes) -> ImportRequest:
    """Return what to import of a fixture, with its probe."""
    wanted = ImportRequest(
        checkpoint or str(FIXTURES / f"{name}.safetensors"), modules=MODULES.get(name), image=IMAGES[name],
        activation="tanh" if name == "mlp-tanh" else "relu", check=str(FIXTURES / f"{name}.npz"),
    )  # fmt: skip
    return replace(wanted, **changes)


def imported(name: str, folder: Path, out: Path | None = None, **changes) -> dict:
    """Import a fixture into NAME.h5 in a folder, or into `out`."""
    return import_network(request(name, **changes), out or folder / f"{name}.h5")


def _keep(probe: dict, key: str, module, inputs, output) -> None:
    if output.numel() <= KEPT:
        probe[key] = output.clone().numpy()


def write() -> None:
    """Write a checkpoint and a probe for each network."""
    import torch
    from safetensors.numpy import save_file

    for name, net in networks(torch).items():
        state, probe = made(torch, name, net)
        save_file(state, FIXTURES / f"{name}.safetensors")
        np.savez_compressed(FIXTURES / f"{name}.npz", **probe)


if __name__ == "__main__":
    write()
