"""Threads of the libraries that do the work."""

from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def blas() -> ThreadpoolController:
    """Return what sets the number of threads of the BLAS libraries that numpy and scipy have loaded."""
    return ThreadpoolController().select(user_api="blas")
