"""Networks go back to PyTorch: exactly, with the program of their module, also permuted, rotated and merged ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from basiscli.errors import BadInput
from basiscli.files.networks import DONE, NetworkFile, load, save_network, versions
from basiscli.foreign.exporting import export_network, folded
from basiscli.foreign.importing import ImportRequest, import_network
from basiscli.nn import models
from basiscli.nn.graph import Network, predict
from basiscli.training.recipe import Recipe
from tests.helpers.features import haar
from tests.helpers.networks import IMAGE, MODELS, arrays_of
from tests.helpers.peers import FIXTURES, IMAGES, imported

# Networks of ours, and the layout that each is written in unless another is named.
OURS = {
    "mlp": "sequential", "vgg": "sequential", "resnet-A": "cifar", "resnet-B": "torchvision",
    "resnet-18": "torchvision", "resnet-50": "torchvision", "wideresnet": "wide", "wideresnet-sums": "wide-biased",
    "sequential": "sequential",
}  # fmt: skip


def saved(path: Path, network: Network, arrays: dict) -> Path:
    """Write a network of ours with arrays (1, ...)."""
    values = {name: array[0].astype(np.float32) for name, array in arrays.items()}
    dataset = {"name": "", "checksum": "", "mean": [3.0] * 3, "inverse_deviation": [0.5] * 3}
    trained = {name: values[name] for name in network.trained}
    state = {name: array for name, array in values.items() if name not in trained}
    file = NetworkFile(
        architecture=network.architecture, training=Recipe().stored(), dataset=dataset, seed=0, status=DONE, command="",
        versions=versions(), weights=trained, state=state,
    )  # fmt: skip
    save_network(path, file, force=True)
    return path


def of_pytorch(program: Path, state: Path, images: np.ndarray) -> np.ndarray:
    """Return the logits of an exported module with an exported state dict."""
    torch = pytest.importorskip("torch")
    scope: dict = {}
    exec(program.read_text(), scope)
    net = scope["net"].eval()
    net.load_state_dict({name: torch.tensor(values) for name, values in load_file(state).items()})
    with torch.no_grad():
        return net(torch.tensor(images).permute(0, 3, 1, 2)).numpy()


def ours(path: Path, images: np.ndarray) -> np.ndarray:
    loaded = load(path)
    return predict(loaded.network, loaded.arrays, images[None])[0][0]


def images_of(path: Path, count: int = 3) -> np.ndarray:
    shape = load(path).network.architecture["input_shape"]
    return np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", IMAGES)
def test_the_module_of_an_imported_network_computes_the_same(name, tmp_path):
    imported(name, tmp_path)
    net, state, program = (tmp_path / file for file in (f"{name}.h5", "net.safetensors", "net.py"))
    export_network(str(net), state, module=program)
    images = images_of(net)
    np.testing.assert_allclose(of_pytorch(program, state, images), ours(net, images), rtol=1e-4, atol=1e-5)
    assert ("nn.Sequential(" in program.read_text()) == (name in ("mlp", "convolutions"))


@pytest.mark.parametrize("name", OURS)
def test_a_network_of_ours_goes_there_and_comes_back(name, tmp_path):
    network = models.build(IMAGE | MODELS[name])
    net = saved(tmp_path / "net.h5", network, arrays_of(network, seeds=1))
    state, program = tmp_path / "net.safetensors", tmp_path / "net.py"
    assert export_network(str(net), state, module=program)["layout"] == OURS[name]
    images = images_of(net)
    np.testing.assert_allclose(of_pytorch(program, state, images), ours(net, images), rtol=1e-4, atol=1e-5)
    listed = {"sequential": "Conv2d(padding=1),BatchNorm2d,ReLU,MaxPool2d(2),Flatten,BatchNorm1d,Linear,ReLU,Linear",
              "vgg": "Conv2d(padding=1),BatchNorm2d,ReLU,MaxPool2d(2),Conv2d(padding=1),BatchNorm2d,ReLU,"
                     "Conv2d(padding=1),BatchNorm2d,ReLU,AdaptiveAvgPool2d(1),Flatten,Linear"}.get(name)  # fmt: skip
    import_network(ImportRequest(str(state), image=(8, 8, 3), modules=listed), tmp_path / "back.h5")
    np.testing.assert_allclose(ours(tmp_path / "back.h5", images), ours(net, images), rtol=1e-5, atol=1e-6)
    for mine, back in zip(
        vars(load(net).standard).values(), vars(load(tmp_path / "back.h5").standard).values(), strict=True
    ):
        np.testing.assert_array_equal(back, mine)
    if OURS[name] != "sequential":
        before, after = load(net), load(tmp_path / "back.h5")
        assert all(np.array_equal(before.arrays[path], after.arrays[path]) for path in before.network.trained)


def rotated(name: str, places: dict[str, str], tmp_path: Path) -> Path:
    """Write a network with a random rotation at each place."""
    network = models.build(IMAGE | MODELS[name] | {"rotated": places})
    arrays = arrays_of(network, seeds=1)
    for number, place in enumerate(places):
        w = arrays[f"{place}/rotation/w"]
        w[0] = haar(w.shape[-1], number)
    return saved(tmp_path / "net.h5", network, arrays)


@pytest.mark.parametrize(
    "name, places, count, maps",
    [
        ("mlp", {"hidden1": "pre", "hidden2": "post"}, 2, 0),
        ("convnet", {"conv1": "pre", "conv3": "pre"}, 2, 0),
        ("vgg", {"conv1": "pre"}, 0, 1),
        ("vgg", {"conv2": "post"}, 1, 0),
        ("resnet-B", {"block2/conv1": "pre"}, 0, 1),
        ("resnet-50", {"block2/conv1": "post"}, 1, 0),
        ("resnet-A", {"block1/sum": "post"}, 0, 1),
    ],
)
def test_a_rotation_is_folded_or_becomes_a_map(name, places, count, maps, tmp_path):
    net = rotated(name, places, tmp_path)
    state, program = tmp_path / "net.safetensors", tmp_path / "net.py"
    record = export_network(str(net), state, module=program)
    assert (record["folded"], record["maps"]) == (count, maps)
    images = images_of(net)
    np.testing.assert_allclose(of_pytorch(program, state, images), ours(net, images), rtol=1e-4, atol=1e-5)
    assert sum("_rotated_" in tensor for tensor in load_file(state)) == maps


def test_a_map_of_its_own_comes_back_as_a_rotation(tmp_path):
    net = rotated("resnet-B", {"block2/conv1": "pre"}, tmp_path)
    export_network(str(net), tmp_path / "net.safetensors")
    import_network(ImportRequest(str(tmp_path / "net.safetensors"), image=(8, 8, 3)), tmp_path / "back.h5")
    before, after = load(net), load(tmp_path / "back.h5")
    assert after.network.architecture == before.network.architecture
    assert all(np.array_equal(before.arrays[path], after.arrays[path]) for path in before.arrays)


def test_folding_leaves_the_function():
    network = models.build(IMAGE | MODELS["mlp"] | {"rotated": {"hidden1": "pre"}})
    arrays = {path: values[0] for path, values in arrays_of(network, seeds=1).items()}
    arrays["hidden1/rotation/w"] = haar(12, 0)
    plain, moved = folded(network, arrays)
    assert "rotated" not in plain.architecture and "hidden1/rotation/w" not in moved
    images = np.random.default_rng(2).standard_normal((1, 3, 8, 8, 3))
    before, after = (predict(n, {p: v[None] for p, v in a.items()}, images)[0] for n, a in
                     ((network, arrays), (plain, moved)))  # fmt: skip
    np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.parametrize(
    "name, layout, word",
    [
        ("mlp", "torchvision", "is a mlp"), ("resnet-B", "sequential", "no plain stack"),
        ("resnet-A", "torchvision", "shortcut A"), ("resnet-50", "stages", "shortcut B"),
        ("wideresnet", "wide-biased", "bias"), ("layernorm", None, "over the channels of a position"),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_say_a_network_is_refused(name, layout, word, tmp_path):
    network = models.build(IMAGE | MODELS[name])
    net = saved(tmp_path / "net.h5", network, arrays_of(network, seeds=1))
    with pytest.raises(BadInput, match=word):
        export_network(str(net), tmp_path / "net.safetensors", layout)
    assert not (tmp_path / "net.safetensors").exists()


def test_the_other_layout_of_a_resnet(tmp_path):
    """Names of `cifar` for a network of torchvision's, and zeros on both sides for option A."""
    network = models.build(IMAGE | MODELS["resnet-B"])
    net = saved(tmp_path / "net.h5", network, arrays_of(network, seeds=1))
    export_network(str(net), tmp_path / "net.npz", "cifar")
    names = set(np.load(tmp_path / "net.npz"))
    assert {"linear.weight", "layer2.0.shortcut.1.running_var"} <= names
    assert export_network(str(net), tmp_path / "other.npz")["layout"] == "torchvision"


def test_what_cannot_be_written_is_refused(tmp_path):
    imported("mlp", tmp_path)
    net = str(tmp_path / "mlp.h5")
    with pytest.raises(BadInput, match=r"as \.safetensors or \.npz"):
        export_network(net, tmp_path / "net.pt")
    (tmp_path / "net.npz").write_bytes((tmp_path / "mlp.h5").read_bytes())
    with pytest.raises(BadInput, match="exists"):
        export_network(net, tmp_path / "net.npz")
    with pytest.raises(BadInput, match="exists"):
        export_network(net, tmp_path / "new.npz", module=tmp_path / "net.npz")
    assert not (tmp_path / "new.npz").exists()
    broken = load(net)
    broken.file.weights["output/b"][0] = np.nan
    save_network(tmp_path / "nan.h5", replace(broken.file))
    with pytest.raises(BadInput, match="not finite"):
        export_network(str(tmp_path / "nan.h5"), tmp_path / "nan.npz")


def test_force_replaces_what_an_export_wrote_and_nothing_else(tmp_path):
    imported("mlp", tmp_path)
    net, program = str(tmp_path / "mlp.h5"), tmp_path / "net.py"
    for out in (tmp_path / "net.safetensors", tmp_path / "net.npz"):
        for _ in range(2):
            export_network(net, out, module=program, force=True)
        checkpoint = FIXTURES / "mlp.safetensors"
        out.write_bytes(checkpoint.read_bytes())
        with pytest.raises(BadInput, match="never replaces"):
            export_network(net, out, force=True)
        assert out.read_bytes() == checkpoint.read_bytes()
    program.write_text("the only copy of a program")
    with pytest.raises(BadInput, match="never replaces"):
        export_network(net, tmp_path / "new.npz", module=program, force=True)
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    with pytest.raises(BadInput, match="never replaces"):
        export_network(net, tmp_path / "data.npz", force=True)
