"""`basiscli doctor`: a survey of this machine."""

import click

from basiscli.cli import records
from basiscli.cli.help import Command


@click.command(cls=Command)
@records.format_option
def command(style) -> None:
    """Describe this machine: processor, memory, BLAS, threads, GPU, CUDA, folders, and the kernels that would be used.

    \b
    basiscli doctor
    basiscli doctor --format json
    """
    from basiscli.device import doctor

    records.emit(doctor.findings(), style)
