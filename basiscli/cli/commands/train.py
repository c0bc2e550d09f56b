"""`basiscli train`: train networks over seeds."""

import click

from basiscli.cli import options, records, training_options
from basiscli.cli.help import Command
from basiscli.cli.messages import usage


@click.command(cls=Command, go_on="the same command with --resume goes on")
@training_options.training()
@click.option("--dry-run", is_flag=True, help="Estimate the time and the size of the run from a few measured steps.")
@options.computing
@records.format_option
def command(style: str | None, dry_run: bool, **chosen) -> None:
    """Train networks that differ in their seed, and write one HDF5 file for each.

    Prints a record for each network: path, seed, status, test_accuracy, test_loss, train_loss. Ctrl-C finishes the
    step, saves, and leaves what --resume needs. The same command gives bitwise the same weights on the same machine.

    \b
    basiscli train --seeds 5
    basiscli train --dataset mnist --seeds 5 --out mnist | basiscli correlate -
    basiscli train --dataset cifar10 --model resnet --width 1/2 --dry-run
    """
    from basiscli.errors import BadInput
    from basiscli.experiments import training
    from basiscli.files.networks import DIVERGED

    job = training.TrainingJob.of(chosen | {"command": records.command_line()})
    with usage():
        job.require_consistent()
    if dry_run:
        records.emit(training.dry_run(job), style)
        return
    trained: list[dict] = []
    records.emit(records.kept(training.train_networks(job), trained), style)
    if all(record["status"] == DIVERGED for record in trained):
        raise BadInput(f"{trained[0]['path']}: diverged in training, and no network is left; choose a smaller `lr`")
