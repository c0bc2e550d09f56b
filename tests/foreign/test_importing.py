"""Checkpoints that PyTorch made become network files that compute the same, whatever their layout and format."""

import json
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from basiscli.errors import BadInput
from basiscli.files.networks import load
from basiscli.foreign.exporting import export_network
from basiscli.foreign.importing import import_network
from tests.helpers import peers
from tests.helpers.command_line import call, done
from tests.helpers.peers import CLASSES, FIXTURES, IMAGES, MODULES, imported, request

# What each network is to be taken for.
KNOWN = {
    "torchvision-18": {"model": "resnet", "stage_blocks": [1, 2], "stage_widths": [4, 6], "stem": "imagenet"},
    "torchvision-18-cifar": {"stage_blocks": [2, 1], "stage_widths": [64, 128], "width": 0.0625, "stem": "cifar"},
    "torchvision-50": {"stage_blocks": [2, 1], "stage_widths": [3, 4], "block": "bottleneck", "shortcut": "B"},
    "cifar-a": {"model": "resnet", "depth": 8, "width": 0.25, "shortcut": "A"},
    "cifar-b": {"model": "resnet", "depth": 8, "width": 0.25, "shortcut": "B"},
    "stages": {"model": "resnet", "depth": 8, "width": 0.25, "shortcut": "A"},
    "wide": {"model": "wideresnet", "depth": 10, "width": 0.25},
    "wide-biased": {"model": "wideresnet", "depth": 10, "width": 0.25, "bias": True, "shortcut_of": "sums"},
    "mlp-tanh": {"model": "sequential", "activation": "tanh"},
}


# A module in the middle of a network; of the others it is the last BatchNorm.
CHANGED = {
    "cifar-a": "layer2.0.bn2", "mlp": "2", "mlp-tanh": "1", "named": "fc1", "vgg": "classifier.3",
    "vgg-bn": "features.16",
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_imported_network_gives_the_logits_of_pytorch(name, tmp_path):
    record = imported(name, tmp_path)
    assert record["proven"] and record["largest_difference"] < 2e-6
    loaded = load(tmp_path / f"{name}.h5")
    assert loaded.file.imported["proof"]["inputs"] == peers.SAMPLES
    architecture = loaded.network.architecture
    assert architecture["input_shape"] == list(IMAGES[name]) and architecture["classes"] == CLASSES
    assert architecture.items() >= KNOWN.get(name, {"model": "sequential"}).items()


@pytest.mark.parametrize("name", IMAGES)
def test_there_and_back_is_exact(name, tmp_path):
    imported(name, tmp_path)
    export_network(str(tmp_path / f"{name}.h5"), tmp_path / "back.safetensors")
    before, after = load_file(FIXTURES / f"{name}.safetensors"), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    for tensor, values in before.items():
        np.testing.assert_array_equal(after[tensor], values, err_msg=tensor)


@pytest.mark.parametrize("name", IMAGES)
def test_the_first_output_that_parts_is_named(name, tmp_path):
    """A changed weight in the middle of a network; in cifar-a of units that are numbered anew."""
    state = load_file(FIXTURES / f"{name}.safetensors")
    module = CHANGED.get(name)
    module = module or [key for key in state if key.endswith("running_mean")][-1].removesuffix(".running_mean")
    state[f"{module}.bias"] += 0.5
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(BadInput, match=rf"first output that differs is that of {module.replace('.', '[.]')}, by"):
        import_network(request(name, str(tmp_path / "net.safetensors")), tmp_path / "net.h5")
    assert not (tmp_path / "net.h5").exists()


def test_a_probe_of_logits_alone_says_by_how_much_they_differ(tmp_path):
    probe = dict(np.load(FIXTURES / "cifar-b.npz"))
    np.savez(tmp_path / "probe.npz", inputs=probe["inputs"], logits=probe["logits"] + 0.1)
    wrong = request("cifar-b", check=str(tmp_path / "probe.npz"))
    with pytest.raises(BadInput, match=r"logits differ .* by .*outputs of modules in the probe would tell where"):
        import_network(wrong, tmp_path / "net.h5")


def half(values: np.ndarray) -> np.ndarray:
    """Return values that bfloat16 holds, as float32."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def write_safetensors(path: Path, state: dict, kind: str) -> Path:
    arrays = {name: values.astype(kind) for name, values in state.items()}
    save_file(arrays, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def write_bfloat16(path: Path, state: dict) -> Path:
    """Write a file of safetensors by its specification; numpy has no bfloat16."""
    header, data = {}, b""
    for name, values in state.items():
        part = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        ends = [len(data), len(data) + len(part)]
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": ends}
        data += part
    text = json.dumps(header).encode()
    path.with_suffix(".safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path.with_suffix(".safetensors")


def write_npz(path: Path, state: dict) -> Path:
    np.savez(path.with_suffix(".npz"), **state)
    return path.with_suffix(".npz")


def write_wrapped(path: Path, state: dict) -> Path:
    """Write names as DataParallel and torch.compile make them, with BatchNorm's counters."""
    named = {f"module._orig_mod.{name}": values for name, values in state.items()}
    named |= {f"module._orig_mod.{name}.num_batches_tracked": np.array(3) for name in ("bn1", "layer1.0.bn1")}
    save_file(named, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def write_pytorch(path: Path, state: dict, inside: str | None = None) -> Path:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.tensor(values) for name, values in state.items()}
    torch.save({inside: tensors, "epoch": 3} if inside else tensors, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@pytest.mark.parametrize(
    "write, rounded",
    [
        (partial(write_safetensors, kind="float64"), lambda v: v),
        (partial(write_safetensors, kind="float16"), lambda v: v.astype(np.float16)),
        (write_bfloat16, half),
        (write_npz, lambda v: v),
        (write_wrapped, lambda v: v),
        (write_pytorch, lambda v: v),
        (partial(write_pytorch, inside="state_dict"), lambda v: v),
    ],
    ids=["float64", "float16", "bfloat16", "npz", "wrapped", "pt", "pt of a training script"],
)
def test_formats_and_types(write, rounded, tmp_path):
    state = load_file(FIXTURES / "torchvision-18-cifar.safetensors")
    checkpoint = write(tmp_path / "net", state)
    import_network(request("torchvision-18-cifar", str(checkpoint), check=None), tmp_path / "net.h5")
    arrays = load(tmp_path / "net.h5").arrays
    for ours, theirs in (("stem/w", "conv1.weight"), ("block3/shortcut/w", "layer2.0.downsample.0.weight")):
        np.testing.assert_array_equal(arrays[ours][0], rounded(state[theirs]).transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(arrays["block1/conv2/norm/variance"][0], rounded(state["layer1.0.bn2.running_var"]))


def test_a_pytorch_file_without_pytorch_says_how_to_convert_it(tmp_path, monkeypatch):
    checkpoint = write_pytorch(tmp_path / "net", load_file(FIXTURES / "mlp.safetensors"))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    call("import", checkpoint, "--out", tmp_path / "net.h5").refused(
        "PyTorch is not installed", "torch.load(PATH, map_location='cpu', weights_only=True)", "save_file"
    )


def test_a_layout_file_describes_what_is_not_known(tmp_path):
    """torchvision's names with other words, and a stack whose modules have names of their own."""
    state = load_file(FIXTURES / "torchvision-18.safetensors")
    words = {"layer": "stage", "conv1.w": "stem.w", "downsample": "skip", "fc": "head"}
    for old, new in words.items():
        state = {f"{name.replace(old, new, 1) if name.startswith(old) or old == 'downsample' else name}": values
                 for name, values in state.items()}  # fmt: skip
    save_file({f"net.{name}": values for name, values in state.items()}, tmp_path / "net.safetensors")
    layout = tmp_path / "mine.toml"
    layout.write_text(
        'model = "resnet"\nprefix = "net."\n[names]\n"stem" = "stem"\n"stem/norm" = "bn1"\n'
        '"block{n}/conv{k}" = "stage{stage}.{block}.conv{k}"\n"block{n}/conv{k}/norm" = "stage{stage}.{block}.bn{k}"\n'
        '"block{n}/shortcut" = "stage{stage}.{block}.skip.0"\n'
        '"block{n}/shortcut/norm" = "stage{stage}.{block}.skip.1"\n"output" = "head"\n[choices]\nshortcut = "B"\n'
    )
    net = str(tmp_path / "net.safetensors")
    import_network(request("torchvision-18", net, layout=str(layout)), tmp_path / "net.h5")
    export_network(str(tmp_path / "net.h5"), tmp_path / "back.npz")
    assert set(np.load(tmp_path / "back.npz")) == {f"net.{name}" for name in state}

    layout.write_text(f"modules = {json.dumps(MODULES['named'].split(','))}\n")
    record = import_network(request("named", layout=str(layout), modules=None), tmp_path / "named.h5")
    assert record["proven"]


def images(path: Path, shape=(8, 8, 3), classes=CLASSES, dtype=np.uint8) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("test", 40)):
        arrays[f"{split}/images"] = rng.integers(0, 256, (count, *shape)).astype(dtype)
        arrays[f"{split}/labels"] = np.arange(count) % classes
    np.savez(path, **arrays)
    return path


def test_images_are_prepared_as_in_pytorch_by_every_command(tmp_path):
    """The logits of a command are those of the same tensors, divided by 255, minus the mean, over the deviation."""
    torch = pytest.importorskip("torch")
    data = images(tmp_path / "data.npz")
    checkpoint, mean, std = FIXTURES / "cifar-a.safetensors", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    options = ("--dataset", data, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3", "--check", FIXTURES / "cifar-a.npz")
    record = done("import", checkpoint, *options, "--out", tmp_path / "net.h5").records[0]
    net = peers.networks(torch)["cifar-a"]
    peers.made(torch, "cifar-a", net)
    test = dict(np.load(data))
    pixels = torch.tensor(test["test/images"]).permute(0, 3, 1, 2) / 255
    seen = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    outputs = {}
    net.layer1.register_forward_hook(lambda module, x, y: outputs.update(layer=y.clone()))
    with torch.no_grad():
        answers = net(seen).argmax(1).numpy()
    assert record["accuracy"] == pytest.approx((answers == test["test/labels"]).mean())
    done("record", tmp_path / "net.h5", "--layer", "block1/sum", "--out", tmp_path / "seen.h5")
    with h5py.File(tmp_path / "seen.h5") as file:
        ours = file["activations/test/block1/sum"][:]
    np.testing.assert_allclose(ours, outputs["layer"].permute(0, 2, 3, 1).numpy(), atol=2e-5)


def test_what_is_unproven_says_so_once_a_command(tmp_path):
    data = images(tmp_path / "data.npz")
    done("import", FIXTURES / "cifar-a.safetensors", "--dataset", data, "--out", tmp_path / "net.h5")
    assert "unproven" in done("show", tmp_path / "net.h5", "--format", "table").stdout
    for command in (("record", tmp_path / "net.h5", "--out", tmp_path / "x.h5"),
                    ("transform", tmp_path / "net.h5", "--permute", 1, "--out", tmp_path / "moved.h5"),
                    ("export", tmp_path / "moved.h5", "--out", tmp_path / "moved.npz")):  # fmt: skip
        assert done(*command).stderr.count(": unproven:") == 1
    proven = ("--check", FIXTURES / "cifar-a.npz", "--out", tmp_path / "proven.h5", "--dataset", data)
    done("import", FIXTURES / "cifar-a.safetensors", *proven)
    assert ": unproven:" not in done("record", tmp_path / "proven.h5", "--out", tmp_path / "y.h5").stderr


def test_a_network_without_data_set_takes_one_that_fits(tmp_path):
    path = tmp_path / "net.h5"
    imported("cifar-a", tmp_path, path)
    call("transform", path, "--permute", 1, "--out", tmp_path / "m.h5").refused("without a data set", "--dataset")
    fitting = images(tmp_path / "data.npz")
    done("transform", path, "--permute", 1, "--dataset", fitting, "--out", tmp_path / "m.h5")
    for wrong, word in ((images(tmp_path / "a.npz", (8, 9, 3)), "8x8x3"), (images(tmp_path / "b.npz", classes=7), "7")):
        call("transform", path, "--permute", 1, "--dataset", wrong, "--out", tmp_path / "n.h5").refused(wrong, word)
    call("import", FIXTURES / "cifar-a.safetensors", "--dataset", wrong, "--out", tmp_path / "n.h5").refused("7")


def test_float_images_are_not_divided(tmp_path):
    data = images(tmp_path / "data.npz", dtype=np.float32)
    import_network(request("cifar-a", dataset=str(data), std=(2.0,)), tmp_path / "net.h5")
    assert load(tmp_path / "net.h5").standard.inverse.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", IMAGES)
def test_pytorch_makes_the_fixtures_again(name):
    torch = pytest.importorskip("torch")
    state, probe = peers.made(torch, name, peers.networks(torch)[name])
    stored = load_file(FIXTURES / f"{name}.safetensors")
    assert stored.keys() == state.keys() and all(np.array_equal(stored[key], state[key]) for key in state)
    kept = np.load(FIXTURES / f"{name}.npz")
    assert set(kept) == set(probe)
    for key, values in probe.items():
        np.testing.assert_allclose(kept[key], values, rtol=1e-4, atol=1e-5, err_msg=key)


def test_the_fixtures_are_small():
    assert sum(path.stat().st_size for path in FIXTURES.iterdir()) < 1_000_000
