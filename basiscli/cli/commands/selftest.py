"""`basiscli selftest`: are the kernels right on this machine, and how fast are they?"""

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command

COLUMNS = ("kernel", "ok", "error", "milliseconds", "gb_s", "of_copy", "gflop_s", "of_product")


@click.command(cls=Command)
@click.option("--quick", is_flag=True, help="Compare only; no times.")
@options.computed_on
@records.format_option
def command(quick, device, precision, style) -> None:
    """Compare every kernel with its definition in float64, and its speed with the best of this machine.

    Run it first on a machine with a GPU. Prints a record for each kernel: its error relative to the largest value, and
    whether the error is within tolerance. Without --quick also milliseconds, bytes and operations per second, and these
    as a part of the rates of copying an array and multiplying large matrices (the first two records). The exit code is
    1 if a kernel is wrong.

    \b
    basiscli selftest --quick
    basiscli selftest --device cuda --precision tf32
    """
    from basiscli.device import placement, selftest
    from basiscli.errors import BadInput

    with placement.using(device, precision):
        results: list[dict] = []
        records.emit(records.kept(selftest.check_kernels(precision, timed=not quick), results), style, COLUMNS)
    if wrong := [record["kernel"] for record in results if not record["ok"]]:
        raise BadInput(f"{len(wrong)} of {len(results)} kernels are wrong on this machine: {', '.join(wrong)}")
