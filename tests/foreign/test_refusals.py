"""What cannot be imported is refused in one line that names the file and the tensor, and nothing is written."""

import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

from basiscli.device import memory
from basiscli.errors import BadInput
from basiscli.foreign import checkpoints, modules
from basiscli.foreign.importing import ImportRequest, import_network
from tests.helpers.command_line import call
from tests.helpers.peers import FIXTURES, MODULES, request

WHOLE = load_file(FIXTURES / "torchvision-18-cifar.safetensors")


def without(state: dict, start: str) -> dict:
    return {name: values for name, values in state.items() if not name.startswith(start)}


CHANGES = {
    "an integer tensor": (lambda s: s | {"fc.weight": s["fc.weight"].astype(np.int32)}, "fc.weight holds"),
    "a contradiction": (lambda s: s | {"layer1.0.conv2.weight": np.ones((4, 3, 3, 3), "f")}, "(4, 3, 3, 3)"),
    "a missing tensor": (lambda s: without(s, "layer2.0.bn1.running_var"), "no layer2.0.bn1.running_var"),
    "a missing map": (lambda s: without(s, "conv1.weight"), "no conv1.weight"),
    "a missing block": (lambda s: without(s, "layer1.0"), "blocks of stage 1"),
    "a missing stage": (lambda s: without(s, "layer1"), "stage 1"),
    "no block": (lambda s: without(s, "layer"), "no block"),
    "a surplus tensor": (lambda s: s | {"head.scale": np.ones(3, "f")}, "there is no head.scale"),
    "a surplus bias": (lambda s: s | {"conv1.bias": np.ones(4, "f")}, "conv1.bias: the network has no place"),
    "a block too far": (lambda s: s | {"layer1.999999.conv1.weight": np.ones((1, 1, 1, 1), "f")}, "stage 1"),
    "a NaN": (lambda s: s | {"bn1.bias": np.full(4, np.nan, "f")}, "bn1.bias holds values that are not finite"),
    "an infinity in float32": (lambda s: s | {"bn1.bias": np.full(4, 1e300)}, "bn1.bias holds values"),
    "a kernel of 5": (lambda s: s | {"conv1.weight": np.ones((4, 3, 5, 5), "f")}, "kernel of 5 x 5"),
    "a name with ..": (lambda s: s | {"..fc.weight": np.ones(1, "f")}, "..fc.weight"),
    "a name with a slash": (lambda s: s | {"layer1/0": np.ones(1, "f")}, "layer1/0"),
    "a name with a control character": (lambda s: s | {"fc\nx": np.ones(1, "f")}, "fc"),
    "an empty axis": (lambda s: s | {"fc.weight": np.ones((0, 8), "f")}, "(0, 8)"),
    "a vector in place of a map": (lambda s: s | {"layer1.0.conv1.weight": np.ones(4, "f")}, "not 4 axes"),
    "no tensor": (lambda s: {}, "holds no tensor"),
    "another family": (lambda s: {f"encoder.{i}.attention": np.ones(2, "f") for i in range(9)}, "and 4 more"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_that_is_not_whole(name, tmp_path):
    change, word = CHANGES[name]
    save_file(change(WHOLE), tmp_path / "net.safetensors")
    options = ("--image", "8x8x3", "--out", tmp_path / "net.h5")
    call("import", tmp_path / "net.safetensors", *options).refused(tmp_path / "net.safetensors", word)
    assert not (tmp_path / "net.h5").exists()


def test_surplus_tensors_can_be_ignored(tmp_path):
    save_file(WHOLE | {"ema.fc.weight": np.ones(3, "f"), "step": np.ones(1, "f")}, tmp_path / "net.safetensors")
    asked = request("torchvision-18-cifar", str(tmp_path / "net.safetensors"), ignore=("ema.*", "step"))
    assert import_network(asked, tmp_path / "net.h5")["proven"]
    with pytest.raises(BadInput, match="`ignore` x"):
        import_network(request("torchvision-18-cifar", ignore=("x",)), tmp_path / "other.h5")


def test_kinds_of_files(tmp_path):
    kinds = {"text": b"no network at all, just words", "empty": b"", "short": b"\x01", "zip": b"PK\x03\x04 torn"}
    for kind, data in kinds.items():
        path = tmp_path / kind
        path.write_bytes(data)
        call("import", path, "--out", tmp_path / "net.h5").refused(path)
    call("import", tmp_path / "none", "--out", tmp_path / "net.h5").refused("no such file")
    call("import", tmp_path, "--out", tmp_path / "net.h5").refused("is a folder")
    with h5py.File(tmp_path / "keras.h5", "w") as file:
        file.attrs["keras_version"] = "2.9"
        file["dense/dense/kernel:0"] = np.ones((2, 2))
    call("import", tmp_path / "keras.h5", "--out", tmp_path / "net.h5").refused("a Keras model", "numpy.savez")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    call("import", tmp_path / "other.h5", "--out", tmp_path / "net.h5").refused("an HDF5 file")
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"x")
    call("import", tmp_path / "net.keras", "--out", tmp_path / "net.h5").refused("a Keras model")
    import_network(request("mlp"), tmp_path / "ours.h5")
    call("import", tmp_path / "ours.h5", "--out", tmp_path / "net.h5").refused("a network file of basiscli already")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object), **WHOLE)
    call("import", tmp_path / "objects.npz", "--out", tmp_path / "net.h5").refused("no x")
    assert not (tmp_path / "net.h5").exists()


def test_nothing_is_unpickled(tmp_path):
    """A PyTorch file that holds more than tensors is refused, and what it would have run is not run."""
    torch = pytest.importorskip("torch")

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"fc.weight": torch.ones(2, 2), "trap": Trap()}, tmp_path / "net.pt")
    call("import", tmp_path / "net.pt", "--out", tmp_path / "net.h5").refused("net.state_dict()")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    call("import", tmp_path / "whole.pt", "--out", tmp_path / "net.h5").refused("net.state_dict()")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    call("import", tmp_path / "list.pt", "--out", tmp_path / "net.h5").refused("holds list")
    torch.save({"fc.weight": 3}, tmp_path / "number.pt")
    call("import", tmp_path / "number.pt", "--out", tmp_path / "net.h5").refused("fc.weight: no tensor")
    assert not (tmp_path / "sprung").exists() and not (tmp_path / "net.h5").exists()


@pytest.mark.slow
def test_a_hundred_thousand_tensors(tmp_path):
    """Are refused as soon as their names are read."""
    one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"t{i}.weight": one for i in range(100_000)}).encode()
    (tmp_path / "net").write_bytes(len(text).to_bytes(8, "little") + text)
    call("import", tmp_path / "net", "--out", tmp_path / "net.h5").refused("holds 100,000 tensors", "and 99995 more")


def test_what_does_not_fit_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    options = ("--out", tmp_path / "net.h5", "--image", "8x8x3")
    call("import", FIXTURES / "cifar-a.safetensors", *options).refused("three times as much")
    np.savez_compressed(tmp_path / "zeros.npz", **{k: np.zeros_like(v) for k, v in WHOLE.items()})
    monkeypatch.setattr(checkpoints, "COPIES", 0)
    monkeypatch.setattr(memory, "available", lambda: 5000)
    call("import", tmp_path / "zeros.npz", *options).refused("its weights take")


def test_what_contradicts_the_checkpoint(tmp_path):
    for changes, word in (
        ({"model": "wide"}, "in the layout wide there is no"),
        ({"modules": "Linear"}, "have no numbers"),
        ({"image": None, "check": None}, "the size of its images"),
        ({"image": (9, 9, 3)}, "do not fit images of 9x9x3"),
        ({"mean": (1.0, 2.0)}, "`mean` has 2 numbers"),
        ({"std": (0.0,)}, "not above 0"),
    ):
        with pytest.raises(BadInput, match=word):
            import_network(request("torchvision-18-cifar", **changes), tmp_path / "net.h5")
    for text, word in (
        ("Conv2d,BatchNorm2d,ReLU", "4, 8: no map"), ("LSTM", "no module that is known"),
        ("Conv2d(dilation=2)", "dilation 2"),
        ("Conv2d(groups=4)", "groups"), ("BatchNorm2d(4, eps=1e-3)", "eps"),
        ("GELU(approximate='tanh')", "approximate"),
        (MODULES["convolutions"].replace("padding=(1, 1)", "padding=(1, 2)"), "padding"),
        ("Conv2d(*)", "cannot be read"), ("Linear(x=1)", "x 1"),
        (MODULES["convolutions"].replace("ReLU", "Tanh", 1), "relu and tanh"),
        (MODULES["convolutions"].replace("Flatten", "Identity"), "flatten it"),
        (MODULES["convolutions"].replace("kernel_size=(3, 3)", "kernel_size=5"), "not of 5 x 5"),
        (MODULES["convolutions"].replace("AvgPool2d(2)", "AvgPool2d(2, 1)"), "side by side"),
        (MODULES["convolutions"].replace("AvgPool2d(2)", "AdaptiveAvgPool2d(2)"), "AdaptiveAvgPool2d"),
        (MODULES["convolutions"].replace("padding=1)", "padding=2)"), "padding"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=word.replace("(", "[(]")):
            import_network(request("convolutions", modules=text), tmp_path / "net.h5")
    with pytest.raises(BadInput, match=r"0 is a convolution.*`modules`"):
        import_network(request("convolutions", modules=None), tmp_path / "net.h5")
    assert not (tmp_path / "net.h5").exists()


@pytest.mark.parametrize(
    "text, word",
    [
        ("x = [", "no layout"), ('model = "vit"\n[names]\nstem = "x"', "say model"), ("colour = 1", "no key colour"),
        ('model = "resnet"\n[names]\nstem = "{where}"', "placeholders"),
        ('model = "resnet"\n[names]\n"block{n}/conv1" = "x"', "needs {stage} and {block}"),
        ("modules = 3", "a list of texts"), ('modules = ["Linear"]\nmodel = "resnet"', "no key model"),
    ],
)  # fmt: skip
def test_layout_files_that_say_nothing(text, word, tmp_path):
    (tmp_path / "mine.toml").write_text(text)
    call(
        "import", FIXTURES / "mlp.safetensors", "--layout", tmp_path / "mine.toml", "--out", tmp_path / "n.h5"
    ).refused(tmp_path / "mine.toml", word)


def test_probes_that_do_not_fit(tmp_path):
    probe = dict(np.load(FIXTURES / "cifar-b.npz"))
    for changed, word in (
        ({"logits": probe["logits"]}, "no array inputs"), ({"inputs": probe["inputs"]}, "no array logits"),
        ({**probe, "logits": probe["logits"][:, :3]}, "3 logits"), ({**probe, "logits": probe["logits"][:1]}, "inputs"),
        ({**probe, "inputs": probe["inputs"][0]}, "inputs"), ({**probe, "inputs": probe["inputs"] * np.nan}, "finite"),
    ):  # fmt: skip
        np.savez(tmp_path / "probe.npz", **changed)
        with pytest.raises(BadInput, match=word):
            import_network(request("cifar-b", check=str(tmp_path / "probe.npz")), tmp_path / "net.h5")


def refused_or_read(path: Path) -> None:
    """Import a file of any contents: it is read, or refused in one line."""
    try:
        checked = checkpoints.read_checkpoint(str(path))
        for name, tensor in checked.items():
            checkpoints.values(str(path), name, tensor)
        asked = ImportRequest(str(path), image=(8, 8, 3))
        import_network(asked, path.with_name("net.h5"), force=True)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1 and str(path) in str(error)


FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = {name: WHOLE[name] for name in list(WHOLE)[:6]}


@FUZZ
@given(cut=st.integers(0, 4000), place=st.integers(0, 1500), byte=st.integers(0, 255), truncate=st.booleans())
def test_damaged_safetensors(tmp_path, cut, place, byte, truncate):
    data = bytearray(save(SMALL))
    data[place % len(data)] = byte
    (tmp_path / "net").write_bytes(data[:cut] if truncate else data)
    refused_or_read(tmp_path / "net")


@FUZZ
@given(cut=st.integers(0, 4000), place=st.integers(0, 4000), byte=st.integers(0, 255), truncate=st.booleans())
def test_damaged_npz(tmp_path, cut, place, byte, truncate):
    if not (tmp_path / "whole.npz").exists():
        np.savez_compressed(tmp_path / "whole.npz", **SMALL)
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    data[place % len(data)] = byte
    (tmp_path / "net").write_bytes(data[:cut] if truncate else data)
    refused_or_read(tmp_path / "net")


HEADERS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(-9, 10**12), max_size=4),
    lambda inner: st.dictionaries(st.sampled_from(["a.weight", "dtype", "shape", "data_offsets"]), inner, max_size=4),
    max_leaves=8,
)


@FUZZ
@given(header=HEADERS)
def test_headers_that_lie(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "net").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    refused_or_read(tmp_path / "net")


NAMES = st.sampled_from([*list(WHOLE)[:9], "0.weight", "0.bias", "1.weight", "2.weight", "layer1.1.conv1.weight", "x"])
SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)


@FUZZ
@given(shapes=st.dictionaries(NAMES, SHAPES, max_size=8), kind=st.sampled_from(["f4", "f2", "i8", "f8"]))
def test_names_and_shapes_that_make_no_network(tmp_path, shapes, kind):
    save_file({name: np.ones(shape, kind) for name, shape in shapes.items()}, tmp_path / "net")
    refused_or_read(tmp_path / "net")


@FUZZ
@given(text=st.text(alphabet="Conv2dLinearReLU(),=[]:'\"0 1+\\\n", max_size=40))
def test_modules_that_are_no_modules(text):
    try:
        modules.parse(text)
    except BadInput as error:
        assert len(str(error).splitlines()) == 1
