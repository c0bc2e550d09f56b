"""`basiscli doctor`: a survey of this machine."""

import click

from basiscli.cli import records


@click.command()
@records.format_option
def command(style) -> None:
    """Describe this machine: processor, memory, BLAS, threads, GPU, CUDA, folders, and the kernels that would be used.

    \b
    basiscli doctor
    """
    from basiscli.device import doctor

    records.emit(doctor.findings(), style)
