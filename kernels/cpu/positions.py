"""Counting positions, or tiles, through images row by row."""

from basiscli.kernels.cpu.compiling import serial


@serial
def position(number, rows, columns):
    """Return the sample, row and column of the position with a number, counted through images row by row."""
    sample, rest = divmod(number, rows * columns)
    return sample, rest // columns, rest % columns


@serial
def next_position(sample, row, column, rows, columns):
    """Return the position after one, without a division."""
    column += 1
    if column == columns:
        column, row = 0, row + 1
        if row == rows:
            row, sample = 0, sample + 1
    return sample, row, column
