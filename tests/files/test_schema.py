"""Attributes and arrays of files with valid digests, as a faulty or hostile program may write them: one line each."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.files import hdf5, schema, summary
from basiscli.files.networks import NetworkFile, load, load_network, save_network
from basiscli.training.recipe import Recipe
from tests.helpers.command_line import call, done
from tests.helpers.damage import reseal


def put(path: Path, attribute: str, value: object, place: str = "/") -> None:
    """Give a file another attribute, and valid digests."""
    with h5py.File(path, "a") as file:
        text = json.dumps(value) if isinstance(value, dict | list) else value
        file[place].attrs[attribute] = np.bytes_(text.encode()) if isinstance(text, str) else text
    reseal(path)


@pytest.mark.parametrize(
    "attribute, value, said",
    [
        ("seed", -1, "attribute seed: is -1, not a whole number from 0 on"),
        ("seed", "7", "attribute seed: is '7', not a whole"),
        ("seed", np.zeros(3), "attribute seed: is array"),
        ("status", "fine", "attribute status: is 'fine', not done, diverged or unfinished"),
        ("status", 3, "attribute status: is 3"),
        ("command", 0.5, "attribute command: is 0.5, not text"),
        ("training", [], "attribute training: is [], not a JSON object"),
        ("training", "{", "attribute training is no JSON"),
        ("training", {"epochs": None}, "attribute training: lacks batch_size"),
        ("versions", 3, "attribute versions: is 3, not text"),
        ("origin", {"made": "match"}, "attribute origin: lacks of"),
        ("origin", {"made": 1, "of": []}, "attribute origin: made is 1, not text"),
        ("architecture", {"model": "mlp"}, "not an architecture that this version knows"),
        ("architecture", {"model": []}, "not an architecture that this version knows"),
        ("kind", "networks", "its attribute kind is 'networks', not one of network, activations, results"),
    ],
)
def test_an_attribute_of_another_kind_is_named(copy, attribute, value, said):
    put(copy, attribute, value)
    with pytest.raises(BadInput) as raised:
        load(copy)
    assert str(raised.value).startswith(f"{copy}: ") and said in str(raised.value)


@pytest.mark.parametrize(
    "attribute, member, value",
    [
        ("dataset", "mean", None), ("dataset", "mean", [None]), ("dataset", "inverse_deviation", [float("nan")]),
        ("dataset", "inverse_deviation", [0]), ("dataset", "mean", [1, 2, 3]), ("dataset", "name", 3),
        ("dataset", "checksum", None), ("position", "epoch", -1), ("position", "hits", 0.5), ("position", "step", None),
        ("training", "epochs", "3"), ("training", "batch_size", 0), ("training", "optimizer", "magic"),
        ("training", "vary", "init"), ("training", "lr", float("inf")), ("training", "new", 1),
    ],
)  # fmt: skip
def test_a_member_of_a_json_attribute_is_named(copy, attribute, member, value):
    old = getattr(load_network(copy), attribute)
    put(copy, attribute, old | {member: value})
    with pytest.raises(BadInput) as raised:
        load(copy)
    named = f"{copy}: the attribute {attribute}: " in str(raised.value) and member in str(raised.value)
    assert named or "how each of the 1 channels of its images is standardised" in str(raised.value)


@pytest.mark.parametrize(
    "array, values, said",
    [
        ("history/test_loss", np.zeros((1,) * 20), r"history/test_loss is float64 \(1, 1,"),
        ("history/test_loss", np.zeros(10**6), "not a float64 for each epoch"),
        ("history/test_loss", np.zeros(1, "f4"), "not a float64 for each epoch"),
        ("optimizer/velocity/hidden1/w", np.zeros(3, "f4"), r"hidden1/w is float32 \(3,\), not float32 \(64, 24\)"),
        ("optimizer/third/hidden1/w", np.zeros(3, "f4"), "optimizer/third/hidden1/w is no memory of sgd"),
        ("weights/hidden1/w", np.zeros((64, 24)), "hidden1/w is float64"),
        ("weights/hidden9/w", np.zeros((64, 24), "f4"), "weights that the architecture does not have: hidden9/w"),
        ("activations/test/hidden1", np.zeros(3, "f4"), r"test/hidden1 is float32 \(3,\), not float32 \(samples"),
        ("activations/test/hidden1", np.zeros((3, 2)), r"test/hidden1 is float64 \(3, 2\), not float32 \(samples"),
    ],
)
def test_an_array_of_another_shape_or_type_is_refused_before_it_is_read(copy, array, values, said):
    with h5py.File(copy, "a") as file:
        attributes = dict(file[array].attrs) if array in file else {}
        if array in file:
            del file[array]
        file[array] = values
        file[array].attrs.update(attributes)
    reseal(copy)
    (record,) = [json.loads(line) for line in call("check", copy).stdout.splitlines()]
    assert not record["whole"]
    with pytest.raises(BadInput, match=said):
        load(copy)
        summary.summarise(str(copy))
        raise BadInput(record["problem"])


def test_an_unfinished_network_has_its_whole_position(copy):
    network = load_network(copy)
    network.status, network.position = "unfinished", {"epoch": 1}
    save_network(copy, network, force=True)
    with pytest.raises(BadInput, match=r"copy.h5: the attribute position lacks hits, loss, samples, step"):
        load_network(copy)


def test_a_bomb_is_not_read(copy):
    """3.2 GB of history in a few kilobytes."""
    with h5py.File(copy, "a") as file:
        del file["history/test_loss"]
        shape = (400_000_000,)
        bomb = file.create_dataset("history/test_loss", shape, "f8", chunks=shape, compression="gzip")
        bomb.id.write_direct_chunk((0,), bytes(1 << 20))
    reseal(copy)
    call("show", copy).refused("history/test_loss is float64 (400000000,), not a float64 for each epoch")


def test_arrays_beyond_the_memory_and_of_many_axes_are_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "users.h5", "w") as file:
        file["axes"] = np.zeros((2,) * 9, "f")
        shape = (10**7, 2)
        bomb = file.create_dataset("bomb", shape, "f", chunks=shape, compression="gzip")
        bomb.id.write_direct_chunk((0, 0), bytes(1 << 20))
    monkeypatch.setattr("basiscli.device.memory.available", lambda: 1 << 25)
    with hdf5.reading(tmp_path / "users.h5") as file:
        with pytest.raises(BadInput, match=r"users.h5: /axes has 9 axes; at most 8 are read"):
            file.array("axes")
        with pytest.raises(BadInput, match=r"users.h5: a chunk of /bomb takes 0.1 GB of memory, 0.0 GB are free"):
            file.array("bomb")


def test_every_option_of_a_recipe_has_a_kind():
    recipe = Recipe(clip=1.0, start_from="a.h5", frozen=("x",)).stored()
    assert schema.RECIPE.convert(json.loads(json.dumps(recipe))) == recipe


def test_the_fields_of_a_network_are_those_of_the_schema(networks):
    names = [f.name for f in schema.described(NetworkFile)]
    with h5py.File(networks[0]) as file:
        assert set(file.attrs) == {"format", "basiscli", "kind", *names} - {"origin", "imported"}


@pytest.mark.parametrize("kind", ["origin", "network", "match", "files"])
def test_names_of_other_files_are_shown_and_nothing_else(networks, tmp_path, monkeypatch, kind):
    """A file that names files outside of its folder: nothing there is read, written or removed."""
    victim = tmp_path / "victim.h5"
    victim.write_text("precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = folder / "a.h5"
    if kind == "origin":
        network = load_network(networks[0])
        network.origin = {"made": "merge", "of": ["../victim.h5", "/etc/passwd"]}
        save_network(path, network)
        assert done("show", path).records[0]["origin"]["of"] == ["../victim.h5", "/etc/passwd"]
        done("correlate", path, networks[1])
        done("transform", path, "--permute", 1, "--out", "b.h5")
    elif kind == "network":
        done("record", networks[0], "--samples", 200, "--out", path)
        put(path, "network", "../victim.h5")
        assert done("show", path).records[0]["network"] == "../victim.h5"
        done("correlate", path, "--null", "rotated", "--draws", 2)
    elif kind == "match":
        done("match", networks[0], networks[1], "--out", path)
        match = json.loads(h5py.File(path).attrs["match"])
        put(path, "match", match | {"files": [str(networks[0]), "../victim.h5"]})
        used = done("match", networks[0], networks[1], "--by", path, "--apply", "b.h5")
        assert "was made for" in used.stderr
    else:
        done("correlate", networks[0], networks[1], "--out", path)
        put(path, "files", ["../victim.h5", "/etc/passwd"])
        done("show", path)
        done("check", path)
    assert victim.read_text() == "precious"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "victim.h5"]
