"""The job of training: its options, their defaults, and what does not go together."""

import logging
from contextlib import ExitStack
from dataclasses import asdict, replace
from threading import Timer

import click
import pytest

from basiscli import data
from basiscli.cli.commands import train
from basiscli.cli.messages import spoken, usage
from basiscli.cli.training_options import TRAINING
from basiscli.errors import BadInput
from basiscli.experiments import training
from basiscli.experiments.training import TrainingJob
from basiscli.experiments.training_loop import alone_in
from tests.helpers.command_line import call


def test_a_job_has_the_options_of_the_command_and_their_defaults():
    said = train.command.make_context("train", [], help_option_names=["-h", "--help"]).params
    assert TRAINING.keys() <= said.keys()
    assert asdict(TrainingJob()) == {name: said[name] for name in TRAINING} | {"command": ""}
    assert TrainingJob.of(said) == TrainingJob()


def test_what_is_left_open_follows_from_data_set_and_model():
    digits = data.load("digits")
    job = TrainingJob().filled(digits)
    assert (job.epochs, job.batch_size, job.lr, job.augment, job.out) == (10, 64, 0.05, "all-shifts", "runs/digits-mlp")
    assert job.architecture(digits)["hidden"] == (64, 64, 64)
    assert TrainingJob(lr=0.2, out="x").filled(digits).lr == 0.2
    network, planned = training.plan(TrainingJob(hidden=(7,), optimizer="adamw"), digits)
    assert network.layers["hidden1"].units == 7 and planned.activations and planned.recipe().lr == 0.001
    assert replace(planned, seeds=(1,)).recipe() == planned.recipe()


@pytest.mark.parametrize(
    "given, told",
    [
        ({"hidden": (8,), "depth": 2}, "`hidden` already says the width of each layer: leave out `width` and `depth`"),
        ({"model": "resnet", "hidden": (8,)}, "`hidden` is of mlp, not of resnet"),
        ({"width": 0.5}, "`width` of an mlp is a whole number of units"),
        ({"donor": "a.h5"}, "`donor` says whose layers, `freeze_prefix` how many: give both"),
        ({"nesterov": True, "optimizer": "adamw"}, "`nesterov` needs `optimizer` sgd with momentum"),
    ],
)
def test_options_that_do_not_go_together(given, told):
    with pytest.raises(BadInput) as refused:
        TrainingJob(**given).require_consistent()
    assert str(refused.value) == told
    with pytest.raises(click.UsageError) as refusal, usage():
        TrainingJob(**given).require_consistent()
    assert refusal.value.message == spoken(told)


def test_the_command_line_speaks_of_options():
    assert spoken("`freeze_prefix` and `lr`, `basiscli study` and {x}") == (
        "--freeze-prefix and --lr, `basiscli study` and {x}"
    )


def test_a_program_can_collect_the_notes_of_training(tmp_path, caplog, capfd):
    job = TrainingJob(hidden=(4,), epochs=1, batch_size=512, out=str(tmp_path), activations=False)
    with caplog.at_level(logging.INFO, "basiscli"):
        (record,) = training.train_networks(job)
    assert record["status"] == "done"
    assert any(message.startswith("epoch 1/1 seeds 0: train loss") for message in caplog.messages)
    assert capfd.readouterr().err == ""


def test_two_trainings_into_one_folder_do_not_meet(tmp_path):
    job = TrainingJob(hidden=(8,), epochs=1, seeds=(0,), out=str(tmp_path), force=True)
    with alone_in(tmp_path), pytest.raises(BadInput, match="another program trains here"):
        next(training.train_networks(job))
    assert [record["seed"] for record in training.train_networks(job)] == [0]


def test_no_record_names_a_network_while_another_program_may_overwrite_it(tmp_path):
    job = TrainingJob(hidden=(8,), epochs=1, seeds=(0,), out=str(tmp_path), resume=True)
    (record,) = training.train_networks(job)
    with alone_in(tmp_path), pytest.raises(BadInput, match="another program trains here"):
        next(training.train_networks(job))  # finished, but the other program may be about to replace it
    assert list(training.train_networks(job)) == [record]
    with pytest.raises(BadInput, match="exists"):
        list(training.train_networks(replace(job, resume=False)))
    records = training.train_networks(job)
    assert next(records) == record
    with pytest.raises(BadInput, match="another program trains here"):  # not before the last record is out
        next(training.train_networks(replace(job, resume=False, force=True)))


def test_a_second_sweep_over_widths_in_one_folder_ends_at_once(tmp_path):
    with alone_in(tmp_path):
        call("connectivity", "--seeds", 2, "--epochs", 1, "--out", tmp_path).refused(
            tmp_path, "another program trains here"
        )
    assert not list(tmp_path.iterdir())


def test_a_second_sweep_over_prefixes_in_one_folder_waits(tmp_path):
    """Steps of a study with other donors share the folder."""
    first = ExitStack()
    first.enter_context(alone_in(tmp_path))
    Timer(1, first.close).start()
    words = ("--width", 8, "--seeds", 2, "--epochs", 1, "--prefixes", "0,1", "--draws", 2, "--augment", "none")
    done = call("freeze", *words, "--out", tmp_path)
    assert done.code == 0, done.stderr
    assert f"{tmp_path}: another program trains here; waiting for it" in done.stderr and len(done.records) == 7
