"""Time training with the first layers frozen, beside training all: with cached features, and without the cache.

    python tests/benchmarks/frozen.py --dataset digits --width 64 --seeds 6 --epochs 10

Runs take turns in one process; every figure is processor time, as the machine may be shared, and the best of the
rounds. An epoch is timed with its evaluation; the cache is timed apart, since it is made once.
"""

import argparse
import time

from basiscli import data
from basiscli.nn import models, weights
from basiscli.training import run as run_module
from basiscli.training.defaults import AUGMENTATIONS, BATCH_SIZES, DIGITS, NAMED
from basiscli.training.recipe import Recipe
from basiscli.training.run import CACHE_PART, Run


def started(name: str, width: int, prefix: int, seeds: int, epochs: int) -> Run:
    """Return networks with the first `prefix` layers of a seed of their own."""
    dataset, kind = data.load(name), DIGITS if name == "digits" else NAMED
    network = models.mlp(dataset.train.images.shape[1:], dataset.classes, [width] * 3)
    donor = weights.initial(network, 100)
    paths = weights.prefix(network, prefix) if prefix else []
    recipe = Recipe(epochs=epochs, batch_size=BATCH_SIZES[kind], augment=AUGMENTATIONS[kind], prefix=prefix)
    return Run.start(network, recipe, dataset, range(seeds), lambda drawn: drawn.update({p: donor[p] for p in paths}))


def seconds(run: Run, part: float) -> tuple[float, float]:
    """Return the processor time of making the cache and of an epoch."""
    run_module.CACHE_PART = part
    start = time.process_time()
    cached = bool(run.cache)
    made = time.process_time()
    run.train_epoch()
    return made - start if cached else 0.0, time.process_time() - made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    conditions = [(0, 0.0), *((prefix, part) for prefix in (1, 2) for part in (0.0, CACHE_PART))]
    best = dict.fromkeys(conditions, (float("inf"), float("inf")))
    for _ in range(options.rounds):
        for prefix, part in conditions:
            run = started(options.dataset, options.width, prefix, options.seeds, options.epochs)
            best[prefix, part] = tuple(map(min, best[prefix, part], seconds(run, part)))
    free = options.epochs * best[0, 0.0][1]
    print("frozen  cached  cache s  epoch s  all epochs s  times as fast")
    for (prefix, part), (cache, epoch) in best.items():
        total = cache + options.epochs * epoch
        print(f"{prefix:6}  {bool(part)!s:6} {cache:8.2f} {epoch:8.2f} {total:13.1f} {free / total:14.2f}")


if __name__ == "__main__":
    main()
