"""Plans: what they expand to, and what is wrong with them, with the line."""

from importlib import import_module
from pathlib import Path

import click
import pytest

from basiscli.cli.commands.study import parse
from basiscli.errors import BadInput
from basiscli.study import expansion, plan

TEXT = """\
# a comment with seeds = 5
[train]
dataset = "digits"
seeds = 3

[correlate]
widths = [16, 32]
draws = 5
zeros = false

[freeze]
widths = [16]
prefixes = [0, 1]
donors = "trained"
donor_seeds = [100]
"""


def steps_of(folder: Path, text: str) -> dict[str, object]:
    (folder / "plan.toml").write_text(text)
    found = expansion.expand(plan.load(str(folder / "plan.toml"), parse), parse)
    return {step.name: step for step in found}


def test_networks_are_trained_once_for_all_that_read_them(tmp_path):
    found = steps_of(tmp_path, TEXT)
    assert list(found) == [
        "train-w16-free", "correlate-w16", "train-w32-free", "correlate-w32", "train-w16-donor-trained-100",
        "train-w16-trained-1", "freeze-w16-donor100",
    ]  # fmt: skip
    assert found["correlate-w16"].after == ("train-w16-free",)
    assert found["train-w16-trained-1"].after == ("train-w16-donor-trained-100",)
    before = {"train-w16-free", "train-w16-donor-trained-100", "train-w16-trained-1"}
    assert set(found["freeze-w16-donor100"].after) == before
    assert found["train-w16-free"].files == tuple(f"networks/w16/free/seed{seed}.h5" for seed in range(3))
    assert found["train-w16-trained-1"].command == (
        "basiscli train --dataset digits --width 16 --donor networks/w16/donor-trained/seed100.h5 --freeze-prefix 1 "
        "--seeds 3 --out networks/w16/trained-1 --resume > records/train-w16-trained-1.jsonl"
    )


def test_what_the_rules_compare_is_trained_and_measured(tmp_path):
    """Linear twins, untrained and half-trained networks, E and 4E epochs, three donors and one without training."""
    text = TEXT.replace("seeds = 3", "seeds = 3\nepochs = 6").replace("zeros = false\n", "")
    text = text.replace("donor_seeds = [100]\n", "").replace('donors = "trained"\n', "") + "[rotate]\nwidths = [8]\n"
    found = steps_of(tmp_path, text)
    abouts = {name: step.about.get("condition") for name, step in found.items() if name.startswith("correlate")}
    assert abouts == {
        "correlate-w16": "trained", "correlate-w32": "trained", "correlate-w32-half": "half-trained",
        "correlate-w32-linear": "linear", "correlate-w32-untrained": "untrained",
    }  # fmt: skip
    half = found["correlate-w32-half"]
    assert half.words[1] == "networks/w32/free/seed0-epoch3.h5" and half.about["epochs"] == 3
    assert half.words[1] in found["train-w32-free"].files and "--keep 3 " in found["train-w32-free"].command
    assert "--keep" not in found["train-w16-free"].command
    assert found["correlate-w32"].words[1:4] == tuple(f"networks/w32/free/seed{seed}.h5" for seed in range(3))
    rotations = {name: found[name].command for name in found if name.startswith("rotate")}
    assert list(rotations) == [f"rotate-w8{part}" for part in ("", "-long", "-linear", "-linear-long", "-untrained")]
    assert "--epochs 24" in rotations["rotate-w8-long"] and "--epochs 24" in rotations["rotate-w8-linear-long"]
    assert "free-untrained" in rotations["rotate-w8-untrained"] and "--epochs 6" in rotations["rotate-w8-untrained"]
    sweeps = {name: found[name] for name in found if name.startswith("freeze")}
    assert list(sweeps) == [f"freeze-w16-donor{seed}" for seed in (100, 101, 102)]
    assert "train-w16-initial-1" in sweeps["freeze-w16-donor100"].after
    assert "--donors trained --donor-seed 101" in sweeps["freeze-w16-donor101"].command
    assert "networks/w16/trained101-1/seed0.h5" in found["train-w16-trained101-1"].files


def test_linear_twins_of_networks_with_pools_take_means(tmp_path):
    text = '[train]\nmodel = "convnet"\nseeds = 3\nepochs = 2\n[rotate]\nwidths = ["1/4"]\n'
    assert "--activation linear --pooling average" in steps_of(tmp_path, text)["train-w1_4-free-linear"].command


def test_seeds_in_steps_of_their_own(tmp_path):
    found = steps_of(tmp_path, TEXT.replace("seeds = 3", "seeds = [4, 5, 9]\nseeds_per_step = 2"))
    lines = [step.command for name, step in found.items() if name.startswith("train-w32")]
    assert ["--seeds 4,5 " in lines[0], "--seeds 9-9 " in lines[1]] == [True, True] and len(lines) == 2
    assert len(found["correlate-w32"].after) == 2


def test_lists_of_options_that_are_repeated():
    assert plan.words({"freeze": ["a/*", "b/*"], "widths": [1, 2]}) == [
        "--freeze", "a/*", "--freeze", "b/*", "--widths", "1,2",
    ]  # fmt: skip
    for table in plan.OWN:
        command = import_module(f"basiscli.cli.commands.{table}").command
        options = {one.opts[0][2:].replace("-", "_"): one for one in command.params if isinstance(one, click.Option)}
        several = {name for name, option in options.items() if option.multiple}
        assert several - plan.SET - plan.OWN[table] == set(plan.REPEATED) & set(options), table


SECTIONS = """
[evolve]
width = 32
keep = [0, 1]

[compare]
seeds = 2
draws = 4
vary = { optimizer = ["sgd", "adamw"], lr = [0.05, 1e-6] }
"""


def test_sections_train_networks_of_their_own_as_train_says(tmp_path):
    text = TEXT.replace("seeds = 3", 'seeds = 3\nactivations = false\nnorm = "layer"\nlr = 0.1') + SECTIONS
    found = steps_of(tmp_path, text + "[resources]\ncompare = { GPU = 1 }\n")
    assert found["evolve"].command == (
        "basiscli evolve --dataset digits --seeds 3 --norm layer --lr 0.1 --width 32 --keep 0,1 --out evolved "
        "> records/evolve.jsonl"
    )
    assert (found["evolve"].folder, found["evolve"].after) == ("evolved", ())
    cells = {name: step for name, step in found.items() if name.startswith("compare")}
    assert list(cells) == [f"compare-{cell}" for cell in ("sgd-0.05", "sgd-1e_06", "adamw-0.05", "adamw-1e_06")]
    assert cells["compare-adamw-1e_06"].command == (
        "basiscli evolve --no-barrier --dataset digits --seeds 2 --norm layer --draws 4 --optimizer adamw --lr 1e-06 "
        "--keep '' --pairs --out compared/adamw-1e_06 > records/compare-adamw-1e_06.jsonl"
    )
    assert {step.resources.get("GPU") for step in cells.values()} == {1} and found["evolve"].resources == {}
    alone = steps_of(tmp_path, '[compare.vary]\nnorm = ["none", "batch"]\n[train]\nseeds = 2\n')
    assert list(alone) == ["compare-none", "compare-batch"]


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("keep = [0, 1]", "keep = [0, 0]", "line 19: [evolve] keep: Invalid value"),
        ("keep = [0, 1]", "pairs = true", "line 19: [evolve] pairs: is set by the study itself"),
        ("draws = 4", "keep = [1]", "line 23: [compare] keep: is set by the study itself"),
        ("draws = 4", "jobs = 1", "line 23: [compare] jobs: No such option"),
        ("vary = {", "# {", "line 21: [compare]: vary = { optimizer = [...] } is missing"),
        ("[0.05, 1e-6]", "0.05", "line 24: [compare] vary: "),
        ("optimizer =", "optimiser =", "line 24: [compare] vary: optimiser: no option of training that can vary"),
        ('"adamw"]', '"adam"]', "line 24: [compare] vary: Invalid value for '--optimizer'"),
        ("seeds = 3", 'seeds = 3\nfreeze = ["hidden1/*"]', "line 18: [evolve]: No such option '--freeze'"),
    ],
)
def test_what_is_wrong_with_a_section_is_said_with_its_line(tmp_path, old, new, words):
    with pytest.raises(BadInput) as error:
        steps_of(tmp_path, (TEXT + SECTIONS).replace(old, new, 1))
    assert words in str(error.value) and "plan.toml" in str(error.value)


def test_resources_and_what_steps_are_about(tmp_path):
    found = steps_of(tmp_path, TEXT + "[resources]\ntrain = { GPU = 1 }\n")
    assert found["train-w16-free"].resources == {"GPU": 1} and found["correlate-w16"].resources == {}
    assert found["freeze-w16-donor100"].about == {"width": 16}


@pytest.mark.parametrize("name", plan.names())
def test_shipped_plans_hold_and_answer_all_claims(name):
    found = expansion.expand(plan.load(name, parse), parse)
    assert {step.words[0] for step in found} == {"train", *plan.CLAIMS}
    before: set[str] = set()
    for step in found:
        assert set(step.after) <= before
        parse(step.words[0], step.words[1:])  # the whole line is one that the command takes
        before.add(step.name)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("draws = 5", "draw = 5", "line 8: [correlate] draw: No such option"),
        ("draws = 5", "draws = 1", "line 8: [correlate] draws: Invalid value for '--draws'"),
        ("draws = 5", 'draws = "many"', "line 8: [correlate] draws: Invalid value"),
        ("widths = [16, 32]", "widths = [16, 0]", "line 7: [correlate] widths: Invalid value for '--width'"),
        ("widths = [16, 32]", "widths = []", "line 7: [correlate] widths: [] is no list of different widths"),
        ("widths = [16, 32]", "widths = [16, 16]", "line 7: [correlate] widths: [16, 16] is no list"),
        ("widths = [16, 32]", "samples = 9", "line 6: [correlate]: widths = [...] is missing"),
        ("seeds = 3", "seeds = 0", "line 4: [train] seeds: Invalid value"),
        ("seeds = 3", "seeds = 1", "line 4: [train] seeds: pairs need two networks or more"),
        ("seeds = 3", "seeds = 3\nseeds_per_step = 0", "line 5: [train] seeds_per_step: 0 is no whole number"),
        ("draws = 5", 'format = "table"', "line 8: [correlate] format: is set by the study itself"),
        ("draws = 5", "help = true", "line 8: [correlate] help: is set by the study itself"),
        ("draws = 5", '"a b" = "x"', "line 8: [correlate] a b: is no option"),
        ("seeds = 3", "dry-run = true", "line 4: [train] dry-run: is set by the study itself"),
        ("seeds = 3", 'out = "x"', "line 4: [train] out: is set by the study itself"),
        ("seeds = 3", "width = 3", "line 4: [train] width: is set by the study itself; leave it out and say widths"),
        ("[correlate]", "[corelate]", "line 6: [corelate]: no such table; there are train, rotate, correlate"),
        ("[train]", "train = 3\n[tran]", "line 2: [train]: is a table of options, not a value"),
        ("draws = 5", "draws = ", "line 8"),
        ("zeros = false", "zeros = 1", "line 9: [correlate] zeros: 1 is neither true nor false"),
        ("zeros = false", "", "line 2: [train] epochs: say how many, 2 or more"),
        ("[freeze]", "[rotate]\nwidths = [8]\n[freeze]", "line 2: [train] epochs: say how many: C1 retrains"),
        ("[100]", "[7, 7]", "line 15: [freeze] donor_seeds: [7, 7] is no list of different seeds"),
        ("[100]", "[2]", "line 15: [freeze] donor_seeds: 2 is one of the networks' seeds, too"),
        ("[freeze]", "[resources]\nfly = { GPU = 1 }\n[freeze]", "line 12: [resources] fly: no such command"),
        ("[freeze]", "[resources]\ntrain = 1\n[freeze]", "line 12: [resources] train: 1 is no table of numbers"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, old, new, words):
    with pytest.raises(BadInput) as error:
        steps_of(tmp_path, TEXT.replace(old, new, 1))
    assert words in str(error.value) and "plan.toml" in str(error.value)


def test_a_plan_without_a_claim_and_one_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="nothing to do; there are rotate, correlate, freeze, connectivity, evolve"):
        steps_of(tmp_path, "[train]\nseeds = 3\n")
    with pytest.raises(BadInput, match=r"no.toml: no plan; name a TOML file.*digits"):
        plan.load(str(tmp_path / "no.toml"), parse)


def test_a_data_set_of_ones_own_is_found_from_the_studys_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = steps_of(tmp_path, TEXT.replace('"digits"', '"mine.npz"'))
    assert str(tmp_path / "mine.npz") in found["train-w16-free"].words
