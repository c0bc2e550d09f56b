"""Matching of whole networks: permuted copies of trained ones, the proof, files of permutations, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from basiscli import data
from basiscli.alignment import matching
from basiscli.alignment.matching import MatchRequest
from basiscli.analysis import assignment
from basiscli.analysis.correlate import correlation
from basiscli.errors import BadInput
from basiscli.files import writer
from basiscli.files.networks import Loaded, load
from basiscli.files.permutations import load_permutations, save_permutations
from basiscli.nn import weights
from basiscli.nn.graph import forward
from basiscli.nn.unit_groups import permute_units, unit_groups
from tests.helpers.command_line import call

MODELS = {
    "mlp": ("--hidden", "20,14", "--lr", 0.01),
    "vgg": ("--model", "vgg", "--layout", "6,pool,10,8"),
    "resnet-A": ("--model", "resnet", "--depth", 20, "--width", 0.25),
    "resnet-B": ("--model", "resnet", "--depth", 20, "--width", 0.25, "--shortcut", "B"),
    "resnet-18": (
        "--model",
        "resnet",
        "--stage-blocks",
        "1,1",
        "--stage-widths",
        "4,6",
        "--shortcut",
        "B",
        "--stem",
        "imagenet",
    ),
    "resnet-50": (
        "--model",
        "resnet",
        "--stage-blocks",
        "1,1",
        "--stage-widths",
        "4,5",
        "--shortcut",
        "B",
        "--block",
        "bottleneck",
    ),
    "wideresnet": ("--model", "wideresnet", "--depth", 10, "--width", 0.5),
    "layernorm": ("--model", "resnet", "--depth", 8, "--width", 0.5, "--norm", "layer", "--lr", 0.01),
}


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """A data set of 256 training and 128 test images of digits."""
    path, digits = tmp_path_factory.mktemp("few") / "few.npz", data.load("digits")
    parts = {"train": digits.train, "test": digits.test}
    sizes = {"train": 256, "test": 128}
    arrays = {f"{name}/images": part.images[: sizes[name]] for name, part in parts.items()}
    arrays |= {f"{name}/labels": part.labels[: sizes[name]] for name, part in parts.items()}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    """Return two networks of a model, trained for two epochs, each once for all tests."""
    made: dict[str, list[Loaded]] = {}

    def networks(name: str) -> list[Loaded]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            options = ("--epochs", 2, "--seeds", 2, "--augment", "none", "--batch-size", 32, "--out", folder)
            done = call("train", "--dataset", few, *MODELS[name], *options)
            assert done.code == 0, done.stderr
            made[name] = [load(record["path"]) for record in done.records]
        return made[name]

    return networks


def shuffled(loaded: Loaded, seed: int) -> tuple[Loaded, dict[str, np.ndarray]]:
    """Return a permuted copy of a network, and the permutations that undo it."""
    rng = np.random.default_rng(seed)
    hidden = {group: rng.permutation(units) for group, units in unit_groups(loaded.network).groups.items()}
    moved, difference = matching.apply(loaded, hidden, matching.proof_images(loaded))
    assert 0 <= difference < 1e-4
    stored = moved.file.weights | moved.file.state
    assert all(np.array_equal(stored[path], values[0]) for path, values in moved.arrays.items())
    return moved, {group: np.argsort(p) for group, p in hidden.items()}


@pytest.mark.parametrize("by", ["activations", "weights", "both"])
@pytest.mark.parametrize("name", MODELS)
def test_a_permuted_copy_of_a_trained_network_is_found_exactly(trained, name, by):
    network = trained(name)[0]
    moved, answer = shuffled(network, 1)
    assert any(not np.array_equal(moved.arrays[path], network.arrays[path]) for path in network.arrays)
    found = matching.align(network, moved, MatchRequest(by=by, restarts=4))
    for group, p in answer.items():
        np.testing.assert_array_equal(found.permutations[group], p, err_msg=group)
    back, difference = matching.apply(moved, found.permutations, matching.proof_images(network))
    assert difference < 1e-4
    for path, values in network.arrays.items():
        np.testing.assert_array_equal(back.arrays[path], values, err_msg=path)
    assert found.total.objective_after == pytest.approx(1, abs=1e-5) and found.total.objective_before < 0.999
    if by != "weights":
        assert found.total.correlation_after == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["mlp", "resnet-A", "wideresnet"])
def test_what_is_reported_is_what_was_done(trained, name):
    a, b = trained(name)
    found = matching.align(a, b, MatchRequest(by="both", restarts=3))
    groups = unit_groups(a.network).groups
    assert [(one.group, one.units) for one in found.groups] == list(groups.items())
    for one in found.groups:
        assert one.moved == np.count_nonzero(found.permutations[one.group] != np.arange(one.units))
        assert 1 <= one.agreed <= 3
    total = found.total
    assert total.units == sum(groups.values()) and total.objective_after > total.objective_before
    moved, _ = matching.apply(b, found.permutations, matching.proof_images(a))
    again = matching.align(
        a, moved, MatchRequest(by="none"), matching.pair(matching.moments([a, moved], MatchRequest()), 0, 1)
    )
    assert again.total.objective_after == again.total.objective_before
    for mine, theirs in zip((*found.groups, total), (*again.groups, again.total), strict=True):
        assert mine.objective_after == pytest.approx(theirs.objective_before, abs=1e-5)
        assert mine.correlation_after == pytest.approx(theirs.correlation_before, abs=1e-4)
        assert theirs.moved == 0


def test_a_correlation_is_the_mean_over_the_layers_of_the_group(trained):
    a, b = trained("resnet-A")
    of_pair = matching.pair(matching.moments([a, b], MatchRequest()), 0, 1)
    found = matching.align(a, b, MatchRequest(by="activations"), of_pair)
    stem = next(one for one in found.groups if one.group == "stem")
    layers = stem.layers.split(",")
    assert layers == ["stem", *(f"block{i}/sum" for i in range(1, 10))]
    tables = [correlation(of_pair[layer])[:4, :4] for layer in layers]
    p = found.permutations["stem"]
    assert stem.correlation_after == pytest.approx(np.mean([r[np.arange(4), p].mean() for r in tables]))
    assert stem.correlation_before == pytest.approx(np.mean([r.diagonal().mean() for r in tables]))


def test_moments_of_many_networks_give_what_those_of_each_pair_give(trained):
    a, b = trained("mlp")
    copy, _ = shuffled(b, 4)
    together = list(matching.align_all([a, copy, b], MatchRequest(by="activations")))
    for other, found in zip((copy, b), together, strict=True):
        # Units that are dead in both may be paired either way.
        alone = matching.align(a, other, MatchRequest(by="activations")).total
        assert found.total.correlation_after == pytest.approx(alone.correlation_after, abs=1e-5)
    product = matching.align(a, b, MatchRequest(by="activations", similarity="product")).total
    assert product.correlation_after < together[1].total.correlation_after


def test_both_starts_from_the_match_of_activations(trained, monkeypatch):
    a, b = trained("resnet-A")
    wanted, seen, search = matching.align(a, b, MatchRequest(by="activations")).permutations, [], assignment.search
    monkeypatch.setattr(assignment, "search", lambda f, starts: seen.extend(starts) or search(f, starts))
    matching.align(a, b, MatchRequest(by="both", restarts=3))
    assert len(seen) == 3 and len({start.order for start in seen}) > 1
    for start in seen:
        assert all(np.array_equal(start.permutations[group], p) for group, p in wanted.items())


def test_samples_are_spread_evenly_over_the_split(trained):
    a, b = trained("mlp")
    found = matching.moments([a, b], MatchRequest(samples=100))
    assert {sum(half.rows for half in one.halves) for one in found} == {100}
    images = data.load(a.file.dataset["name"]).train.images
    chosen = np.arange(100) * 256 // 100
    x = (images[chosen] - a.standard.mean) * a.standard.inverse
    _, kept, _ = forward(a.network, a.arrays, x[None].astype("f"), keep=["hidden1/relu"])
    means = matching.pair(found, 0, 1)["hidden1"].means[0]
    np.testing.assert_allclose(means, kept["hidden1/relu"][0].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_weights_since_initialisation(trained, tmp_path):
    a, b = trained("mlp")
    seeds = [weights.initial(a.network, seed) for seed in (0, 1)]
    change = [
        {path: one.arrays[path][0] - start[path] for path in a.network.trained}
        for one, start in zip((a, b), seeds, strict=True)
    ]
    found = matching.align(a, b, MatchRequest(by="weights", from_init=True))
    paths = [path for path in a.network.trained if path != "output/b"]
    dot = sum(float((change[0][path] * change[1][path]).sum()) for path in paths)
    norms = [np.sqrt(sum(float((one[path] ** 2).sum()) for path in paths)) for one in change]
    assert found.total.objective_before == pytest.approx(dot / np.prod(norms), rel=1e-3)
    plain = matching.align(a, b, MatchRequest(by="weights"))
    assert any(not np.array_equal(p, plain.permutations[group]) for group, p in found.permutations.items())


def test_weights_that_the_seed_does_not_give_again_are_refused(trained, few, tmp_path):
    a, b = trained("mlp")

    def refused(other: Loaded, words: str) -> None:
        with pytest.raises(BadInput, match=words):
            matching.align(a, other, MatchRequest(by="weights", from_init=True))

    moved, _ = matching.apply(b, {}, matching.proof_images(b), {"made": "match", "of": [a.path, b.path]})
    refused(moved, "was not trained as it is")
    for name, options, words in (
        ("started", ("--start-from", a.path), "started from another network"),
        ("donated", ("--donor", a.path, "--freeze-prefix", 1), "has layers of a donor"),
    ):
        done = call("train", "--dataset", few, *MODELS["mlp"], "--epochs", 0, *options, "--out", tmp_path / name)
        assert done.code == 0, done.stderr
        refused(load(tmp_path / name / "seed0.h5"), words)


def test_a_permutation_that_changes_the_function_is_refused(trained, monkeypatch):
    network = trained("resnet-A")[0]
    images, permute = matching.proof_images(network), permute_units

    def half(groups, arrays, permutations):
        moved = permute(groups, arrays, permutations)
        return moved | {path: arrays[path] for path in moved if path.endswith("conv1/w")}

    monkeypatch.setattr(matching, "permute_units", half)
    with pytest.raises(BadInput, match=r"permuted, its logits differ by .* of the largest"):
        matching.apply(network, {"stem": np.array([3, 2, 1, 0])}, images)


def test_a_network_without_finite_logits_is_refused(trained):
    network = trained("mlp")[0]
    broken = replace(network, arrays=network.arrays | {"output/b": np.full((1, 10), np.nan, "f")})
    with pytest.raises(BadInput, match="logits"):
        matching.apply(broken, {}, matching.proof_images(network))


def test_the_optimiser_of_an_unfinished_network_is_permuted_too(trained):
    network = trained("mlp")[0]
    held = {path: network.arrays[path][0] * 2 for path in network.network.trained}
    unfinished = replace(network, file=replace(network.file, optimizer={"velocity": held}))
    p = np.random.default_rng(0).permutation(20)
    moved, _ = matching.apply(unfinished, {"hidden1": p}, matching.proof_images(network))
    np.testing.assert_array_equal(moved.file.optimizer["velocity"]["hidden1/w"], held["hidden1/w"][:, p])
    np.testing.assert_array_equal(moved.file.optimizer["velocity"]["hidden2/w"], held["hidden2/w"][p])
    assert set(moved.file.optimizer["velocity"]) == set(held)


def test_networks_that_are_not_alike_are_refused_with_the_reason(trained, few, tmp_path):
    a = trained("mlp")[0]

    def refused(words: str, *options: object, dataset=few) -> None:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        done = call("train", "--dataset", dataset, "--epochs", 0, *options, "--out", out)
        assert done.code == 0, done.stderr
        with pytest.raises(BadInput, match=words):
            matching.align(a, load(out / "seed0.h5"), MatchRequest())

    refused(r"has hidden \[20, 15\], .* has \[20, 14\]: units can be matched one to one", "--hidden", "20,15")
    refused("has model vgg", *MODELS["vgg"])
    refused("has norm batch", "--hidden", "20,14", "--norm", "batch")
    refused("was trained on other data", "--hidden", "20,14", dataset="digits")
    diverged = replace(a, file=replace(a.file, status="diverged"))
    with pytest.raises(BadInput, match="diverged in training"):
        matching.require_alike([a, diverged])
    broken = replace(a, arrays=a.arrays | {"hidden1/w": a.arrays["hidden1/w"] * np.inf})
    with pytest.raises(BadInput, match="hidden1/w holds values that are not finite"):
        matching.align(a, broken, MatchRequest())


@pytest.fixture
def kept(trained, tmp_path) -> tuple[Path, list[Loaded], list[matching.Alignment]]:
    """A file of permutations of two networks to a third."""
    a, b = trained("resnet-A")
    networks = [a, b, replace(shuffled(b, 7)[0], path=str(tmp_path / "c.h5"))]
    found = list(matching.align_all(networks, MatchRequest(by="weights", restarts=2)))
    save_permutations(tmp_path / "p.h5", [one.path for one in networks], [one.permutations for one in found], {})
    return tmp_path / "p.h5", networks, found


def test_permutations_are_read_back_for_any_two_of_their_networks(kept):
    path, (a, b, c), found = kept
    request = MatchRequest(by=str(path))

    def same(left: dict, right: dict) -> bool:
        return all(np.array_equal(left[group], right[group]) for group in right)

    assert same(matching.align(a, c, request).permutations, found[1].permutations)
    back = matching.align(b, a, request).permutations
    assert same(back, {group: np.argsort(p) for group, p in found[0].permutations.items()})
    between = matching.align(b, c, request)
    # c is b permuted, and both were matched to a alike if the descents ended alike; whatever they did, paths compose.
    through = {group: found[1].permutations[group][p] for group, p in back.items()}
    assert same(between.permutations, through)
    with pytest.raises(BadInput, match=r"p.h5: holds permutations of .*c.h5: none of elsewhere.h5"):
        matching.align(a, replace(b, path="elsewhere.h5"), request)


def test_a_single_permutation_serves_files_of_any_name(trained, tmp_path):
    a, b = trained("mlp")
    found = matching.align(a, b, MatchRequest(by="weights", restarts=1))
    save_permutations(tmp_path / "p.h5", ["was-a.h5", "was-b.h5"], [found.permutations], {})
    again = matching.align(a, b, MatchRequest(by=str(tmp_path / "p.h5"))).permutations
    assert all(np.array_equal(p, again[group]) for group, p in found.permutations.items())


def test_files_that_hold_no_permutations_of_these_networks_are_refused(trained, kept, tmp_path):
    path, (a, b, _), found = kept
    groups = unit_groups(a.network)
    good = found[0].permutations
    attributes = {"analysis": "match", "match": {"files": [a.path, b.path]}}

    def refused(words: str, permutations: dict, attributes: dict = attributes) -> None:
        bad = tmp_path / "bad.h5"
        arrays = {f"permutations/1/{group}": p for group, p in permutations.items()}
        writer.save_arrays(bad, arrays, attributes, force=True)
        with pytest.raises(BadInput, match=words):
            load_permutations(bad, groups)

    refused("stem: not a permutation of its 4 units", good | {"stem": np.array([0, 1, 2, 2])})
    refused("stem: not a permutation of its 4 units", good | {"stem": np.array([0.0, 1, 2, 3])})
    refused("permutes stem of 5 units, the networks have 4", good | {"stem": np.arange(5)})
    refused("permutes other of 3 units, the networks have 0", good | {"other": np.arange(3)})
    refused("permutes stem of 0 units", {group: p for group, p in good.items() if group != "stem"})
    refused("holds no permutations", good, {"analysis": "correlate"})
    refused("the attribute match", good, {"analysis": "match"})
    refused("the attribute match", good, {"analysis": "match", "match": {"file": []}})
    refused("holds no permutations", good, {"analysis": "match", "match": {"files": [a.path]}})
    for other, words in ((a.path, "holds no permutations"), (tmp_path / "no.h5", "no such file")):
        with pytest.raises(BadInput, match=words):
            load_permutations(other, groups)
    text = path.read_bytes()
    path.write_bytes(text[: len(text) // 2])
    with pytest.raises(BadInput, match=r"p\.h5"):
        load_permutations(path, groups)
