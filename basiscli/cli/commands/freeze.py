"""`basiscli freeze`: does a common start of frozen layers make the layers after it more alike?"""

import re
from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import correlate, device, train

DONORS = ("trained", "initial")
# Options of train that the sweep sets itself, with what they are for the checks that both commands share.
SET = {
    "start_from": None, "start_weights": (), "freeze": (), "donor": None, "freeze_prefix": None, "resume": False,
    "activations": False,
}  # fmt: skip
NOT_TRAINS = {*SET, "seeds", "out", "force", "dry_run", "device", "precision", "style"}
CORRELATES = {"tap", "positions", "dead"}


class Prefixes(click.ParamType):
    """Numbers of layers: `0,1,2`."""

    name = "prefixes"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"\d+(,\d+)*", value):
            self.fail(f"'{value}': write numbers of layers, such as 0,1,2", param, ctx)
        return tuple(map(int, value.split(",")))


@click.command(short_help="Freeze the first layers of networks alike, and correlate the layers after them.")
@click.option(
    "--prefixes",
    type=Prefixes(),
    metavar="K,...",
    help="How many layers are the donor's; 0, the free networks, is always among them.  [default: 0,1,2,3, as far as"
    " layers are left]",
)
@click.option(
    "--donors",
    type=correlate.Names(DONORS),
    default=DONORS,
    metavar="NAMES",
    help="Whose layers: of a network trained like the others, or of one as it starts.  [default: trained,initial]",
)
@click.option("--donor-seed", type=click.IntRange(min=0), default=100, show_default=True)
@click.option("--seeds", type=train.SeedList(), default="6", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9.")
@click.option(
    "--split",
    type=click.Choice(("test", "train", "test-shifts", "train-shifts")),
    help="Images to correlate on.  [default: test-shifts on digits, else test]",
)
@click.option(
    "--draws", type=click.IntRange(min=2), default=20, show_default=True, help="Draws of each pair's rotated null."
)
@click.option(
    "--out", metavar="FOLDER", help="Where the networks go, a folder a condition.  [default: runs/DATASET-MODEL-frozen]"
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw correlation against depth.")
@click.option("--force", is_flag=True, help="Overwrite networks in the folder, and --plot.")
@device.options
@records.format_option
def command(prefixes, donors, donor_seed, split, plot, style, tap, positions, dead, draws, **options) -> None:
    """Are the layers after a common prefix more alike?

    Trains a donor; networks of several seeds; and for every K networks of the same seeds whose layers 1 to K are the
    donor's and stay so. For every layer after the prefix: the matched correlation, held out, its excess over the
    rotated null, and the rise of both over the free networks, with intervals over seeds (docs/frozen.md).

    The networks are files in FOLDER/free, FOLDER/trained-1 and so on. What is there already is kept: the same command
    goes on after an interruption, and another --plot costs no training.

    \b
    basiscli freeze --plot frozen.png
    basiscli freeze --dataset mnist --width 512 --prefixes 0,1,2 --seeds 4 --epochs 5
    """
    from basiscli.analysis.assess import Request
    from basiscli.experiments import freezing
    from basiscli.files import hdf5

    train.require_consistent({**options, **SET, "start_only": False})
    if len(options["seeds"]) < 2:
        raise click.UsageError("--seeds: pairs of networks need two seeds or more, intervals three")
    if donor_seed in options["seeds"]:
        raise click.UsageError(f"--donor-seed {donor_seed} is one of --seeds: choose another")
    if plot:
        hdf5.require_new(plot, options["force"])
    request = Request(("rotated",), draws, drop_dead=dead == "drop", seed=freezing.SEED)
    options |= SET | {"command": records.command_line()}
    sweep = freezing.Sweep(options, donors, donor_seed, prefixes, split, tap, positions, request)
    found: list[dict] = []
    records.emit(records.kept(freezing.run(sweep), found), style, row=_row)
    if plot:
        from basiscli.plots import experiments
        from basiscli.plots.style import save

        save(experiments.prefixes_figure(found), plot)


def _row(record: dict) -> dict:
    """Return the row of a table: intervals in brackets, so that 80 columns hold them."""
    return {
        "shared": f"{record['donor']} {record['prefix']}" if record["prefix"] else "none",
        "layer": record["layer"],
        "dead": record["dead"],
        "matched_held_out": record["matched_held_out"],
        "rise": records.interval(record, "rise"),
        "excess_rise": records.interval(record, "excess_rise"),
    }


command.params += [option for option in train.command.params if option.name not in NOT_TRAINS]
command.params += [option for option in correlate.command.params if option.name in CORRELATES]
