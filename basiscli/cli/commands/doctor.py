"""`basiscli doctor`: a survey of this machine."""

import click

from basiscli.cli import records


@click.command()
@records.format_option
def command(style) -> None:
    """Say what was found here: processor, memory, BLAS, threads, GPU, CUDA, folders, and which kernels would be used.

    \b
    basiscli doctor
    """
    from basiscli.device import doctor

    records.emit(doctor.findings(), style)
