"""Independent random streams: every draw in the suite comes from `generator(seed, stream, ...)`."""

import zlib

import numpy as np


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return the generator of one named stream of one seed.

    The stream is a path of words and numbers, such as ("order", epoch) or ("init", "hidden1/w"). Each path is its own
    stream, so a draw depends neither on what was drawn before nor on the other layers and epochs: a run resumes at any
    epoch without a stored state, and an initialisation can be drawn again from the seed alone.

    The words enter numpy's SeedSequence as CRC-32 sums; PCG64 is named, since numpy may change its default.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a seed is a whole number from 0, not {seed}")
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in stream]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))
