"""Steps on the workers of a Dask scheduler, which lie elsewhere and share a folder (docs/cluster.md)."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from basiscli.errors import BadInput
from basiscli.study.steps import Step

SECONDS = 20


def connect(address: str) -> Callable[[Step], Executor]:
    """Return who runs a step: an executor over the scheduler's workers that have the step's resources.

    Raises BadInput if Dask is not installed or nobody answers at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise BadInput("`scheduler` needs Dask: pip install 'basiscli[cluster]'") from error
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(f"{address}: no Dask scheduler answers there ({error})") from error
    return lambda step: client.get_executor(pure=False, resources=dict(step.resources))


def unmet(address: str, steps: Sequence[Step]) -> list[str]:
    """Return the names of steps whose resources no worker of a scheduler has at present."""
    from distributed import Client

    with Client(address, timeout=SECONDS, set_as_default=False) as client:
        workers = [worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    return [
        step.name
        for step in steps
        if not any(all(has.get(name, 0) >= need for name, need in step.resources.items()) for has in workers)
    ]
