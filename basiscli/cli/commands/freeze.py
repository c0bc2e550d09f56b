"""`basiscli freeze`: do common frozen first layers make the layers after them more alike?"""

from collections.abc import Mapping
from dataclasses import replace

import click

from basiscli.cli import options, records, training_options
from basiscli.cli.help import GOES_ON, Command, of_output
from basiscli.cli.messages import usage
from basiscli.cli.types import Names, Prefixes


@click.command(
    cls=Command,
    go_on=GOES_ON,
    short_help="Share frozen first layers among networks, and correlate the layers after them.",
)
@click.option(
    "--prefixes",
    type=Prefixes(),
    metavar="K,...",
    help="Numbers of layers that are the donor's; 0, the free networks, is always included.  [default: 0,1,2,3, as far"
    " as layers are left]",
)
@click.option(
    "--donors",
    type=Names("basiscli.experiments.freezing:DONORS"),
    default="all",
    metavar="NAMES",
    help="Whose layers: of a network trained like the others, or of an untrained one.  [default: trained,initial]",
)
@click.option(
    "--donor-seed",
    type=options.WHOLE,
    default=100,
    show_default=True,
    help="Of another one, folders are called trained101-1, so that several donors share one --out.",
)
@options.swept_seeds
@options.inputs("--split", "Images to correlate on.  [default: test-shifts on digits, else test]")
@options.swept_draws
@of_output(
    "--out", metavar="FOLDER", help="Where the networks go, a folder a condition.  [default: runs/DATASET-MODEL-frozen]"
)
@options.plotted("Draw correlation against depth.")
@options.forced("Overwrite networks in the folder, and --plot.")
@options.computing
@records.format_option
@training_options.training(without=training_options.SWEPT)
@options.correlating
def command(prefixes, donors, donor_seed, split, plot, style, tap, positions, dead, memory, draws, **chosen) -> None:
    """Are the layers after a common prefix more alike?

    Trains a donor, free networks of several seeds, and for every K networks of the same seeds whose layers 1 to K are
    copied from the donor and frozen. Prints for every layer after the prefix: the matched correlation, held out, its
    excess over the rotated null, and the rise of both over the free networks, with intervals over seeds
    (docs/frozen.md).

    The networks are files in FOLDER/free, FOLDER/trained-1 and so on. Existing networks are kept, so the same
    command goes on after an interruption, and another --plot costs no training.

    \b
    basiscli freeze --plot frozen.png
    basiscli freeze --dataset mnist --prefixes 0,1,2 --seeds 4 --epochs 5
    """
    from basiscli.analysis.assess import CorrelationRequest
    from basiscli.experiments import freezing
    from basiscli.experiments.figures import drawn_at_end
    from basiscli.experiments.training import TrainingJob

    job = TrainingJob.of(chosen | {"activations": False, "command": records.command_line()})
    with usage():
        replace(job, start_only=False).require_consistent()
    options.require_pairs(job.seeds)
    if donor_seed in job.seeds:
        raise click.UsageError(f"--donor-seed {donor_seed} is one of --seeds: choose another")
    request = CorrelationRequest(("rotated",), draws, drop_dead=dead == "drop", seed=freezing.SEED)
    sweep = freezing.PrefixSweep(job, donors, donor_seed, prefixes, split, tap, positions, request, memory)
    results = freezing.sweep_prefixes(sweep)
    records.emit(drawn_at_end(results, "prefixes_figure", plot, job.force), style, row=_row)


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns, with intervals in brackets."""
    return {
        "shared": f"{record['donor']} {record['prefix']}" if record["prefix"] else "none",
        "layer": record["layer"],
        "dead": record["dead"],
        "matched_held_out": record["matched_held_out"],
        "rise": records.interval(record, "rise"),
        "excess_rise": records.interval(record, "excess_rise"),
    }
