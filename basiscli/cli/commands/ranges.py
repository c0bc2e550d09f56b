"""Numbers that options take."""

import math

import click


class Finite(click.FloatRange):
    """A finite number of a range. click's own lets `nan` through, which no comparison stops."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is not a finite number", param, ctx)
        return number
