"""`basiscli train`: train networks over seeds."""

import click

from basiscli.cli import options, records

# The options that some models only have; what each means is said in its help.
OF_MODELS = {
    "hidden": ("mlp",),
    "depth": ("mlp", "vgg", "resnet", "wideresnet"),
    "layout": ("convnet", "vgg"),
    "pooling": ("convnet", "vgg"),
    "shortcut": ("resnet",),
    "dropout": ("wideresnet",),
}


@click.command()
@options.training()
@click.option("--dry-run", is_flag=True, help="Say how long and how large the run would be, from a few measured steps.")
@options.computing
@records.format_option
def command(style: str | None, dry_run: bool, **chosen) -> None:
    """Train networks that differ in their seed, and write one HDF5 file for each.

    Prints a record for each network: path, seed, status, test_accuracy, test_loss, train_loss. Ctrl-C finishes the
    step, saves, and leaves what --resume needs. The same command gives bitwise the same weights on the same machine.

    \b
    basiscli train --seeds 5
    basiscli train --dataset mnist --seeds 5 --out mnist | basiscli correlate -
    basiscli train --dataset cifar10 --model resnet --depth 20 --width 1/2 --seeds 3 --dry-run
    """
    from basiscli.experiments import training

    require_consistent(chosen)
    if dry_run:
        records.emit(training.dry_run(chosen), style)
    else:
        records.emit(training.run(chosen | {"command": records.command_line()}), style)


def require_consistent(options: dict) -> None:
    """Raise UsageError for options that do not go together."""
    _require_fitting(options)
    if options["hidden"] and (options["width"] or options["depth"]):
        raise click.UsageError("--hidden already says the width of each layer: leave out --width and --depth")
    if options["layout"] and options["depth"]:
        raise click.UsageError("--layout already says every layer: leave out --depth")
    if options["resume"] and options["force"]:
        raise click.UsageError("--resume keeps what is there, --force overwrites it: choose one")
    if options["start_weights"] and not options["start_from"]:
        raise click.UsageError("--start-weights chooses from the network that --start-from names")
    if (options["donor"] is None) != (options["freeze_prefix"] is None):
        raise click.UsageError("--donor says whose layers, --freeze-prefix how many: give both")
    if options["start_only"] and not options["donor"]:
        raise click.UsageError("--start-only is about the layers that --donor and --freeze-prefix name")
    if options["nesterov"] and not (options["optimizer"] == "sgd" and options["momentum"]):
        raise click.UsageError("--nesterov needs --optimizer sgd with momentum")


def _require_fitting(options: dict) -> None:
    """Raise UsageError for an option of another model than the one chosen."""
    for name, models in OF_MODELS.items():
        if options[name] is not None and options["model"] not in models:
            raise click.UsageError(f"--{name} is of {', '.join(models)}, not of {options['model']}")
    if options["model"] == "mlp" and isinstance(options["width"], float):
        raise click.UsageError("--width of an mlp is a whole number of units")
