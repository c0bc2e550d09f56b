"""The threads of the BLAS libraries."""

from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def blas() -> ThreadpoolController:
    """Return the controller of the threads of the BLAS libraries that numpy and scipy have loaded."""
    return ThreadpoolController().select(user_api="blas")
