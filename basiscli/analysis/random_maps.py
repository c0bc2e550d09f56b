"""Random matrices M for representations, y = M x for a column x of U units, and the error of undoing M.

Everything is float64 unless a function takes the precision.
"""

from collections.abc import Iterable

import numpy as np

ORTHOGONAL, PERMUTATION, SIGNED, SYMMETRY, IDENTITY = KINDS = (
    "orthogonal", "permutation", "signed-permutation", "relu-symmetry", "identity",
)  # fmt: skip
# Scales of the ReLU symmetry are exp(DEVIATION g - DEVIATION²), g normal: the mean of their squares is 1.
DEVIATION = 0.5


def haar(rng: np.random.Generator, units: int, precision: type = np.float64) -> np.ndarray:
    """Return an orthogonal matrix, uniform over all: QR of a Gaussian matrix with R's diagonal made positive.

    precision: of the arithmetic and the result; float32 takes half the time.
    """
    q, r = np.linalg.qr(rng.standard_normal((units, units)).astype(precision, copy=False))
    return q * np.copysign(1, r.diagonal())


def draw(kind: str, rng: np.random.Generator, units: int, power: float = 1) -> np.ndarray:
    """Return a random matrix (U, U) of a kind; power, in (0, 1], is of orthogonal matrices.

    orthogonal:         uniform over the matrices of determinant 1, each of which has a real power
    permutation:        uniform over all
    signed-permutation: the same with signs of chance 1/2
    relu-symmetry:      a permutation times positive scales: φ(M x) = M φ(x) for ReLU
    """
    if kind == ORTHOGONAL:
        m = haar(rng, units)
        m[:, 0] *= np.sign(np.linalg.det(m))
        return matrix_power(m, power)
    m = np.eye(units)
    if kind == IDENTITY:
        return m
    m = m[rng.permutation(units)]
    if kind == SIGNED:
        return m * rng.choice([-1.0, 1.0], units)
    if kind == SYMMETRY:
        return m * np.exp(DEVIATION * rng.standard_normal(units) - DEVIATION**2)
    return m


def matrix_power(m: np.ndarray, power: float) -> np.ndarray:
    """Return M^α for an orthogonal M of determinant 1: all angles of rotation, in (-π, π], times α.

    M^α M^β = M^(α+β) while α + β ≤ 1.
    """
    if power == 1:
        return m
    from scipy.linalg import schur  # takes a sixth of a second to import

    # M is normal, so its complex Schur form is diagonal: V diag(e^iθ) Vᴴ.
    diagonal, v = schur(m, output="complex")
    return ((v * np.exp(1j * power * np.angle(diagonal.diagonal()))) @ v.conj().T).real


def reconstruction_errors(chunks: Iterable[np.ndarray], matrices: np.ndarray) -> np.ndarray:
    """Return for orthogonal M (K, U, U) the smallest relative error (K,) with which a ReLU layer can give Mᵀ h.

    h are activations, chunks of (n, ..., U). M φ(z) = h needs φ(z) = Mᵀ h, and φ gives nothing below 0:
    Σ min(Mᵀ h, 0)² / Σ h².
    """
    lost, total = np.zeros(len(matrices)), 0.0
    for chunk in chunks:
        h = chunk.reshape(-1, chunk.shape[-1]).astype(np.float64)
        lost += [np.square(np.minimum(h @ m, 0)).sum() for m in matrices]
        total += np.square(h).sum()
    return lost / total if total else lost
