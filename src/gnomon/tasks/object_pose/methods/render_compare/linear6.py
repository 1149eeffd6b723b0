"""Six unknowns: solve the normal equations of a Gauss-Newton step and apply it to a pose."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def solve(A, b, x):
    """Solve A x = b by Cholesky; only the lower triangle of A is read, and it is overwritten. False if singular."""
    for i in range(6):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            if i == j:
                if not s > 1e-14:
                    return False
                A[i, i] = np.sqrt(s)
            else:
                A[i, j] = s / A[j, j]
    for i in range(6):
        s = b[i]
        for k in range(i):
            s -= A[i, k] * x[k]
        x[i] = s / A[i, i]
    for i in range(5, -1, -1):
        s = x[i]
        for k in range(i + 1, 6):
            s -= A[k, i] * x[k]
        x[i] = s / A[i, i]
    return True


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def normal_equations(rows, count, A, b):
    """A += sum w J J^T (lower triangle) and b += sum w J r over `count` residuals.

    `rows` is (8, n) float32: the six columns of J, then r, then w. One dot product at a time over contiguous
    arrays, which the compiler turns into vector instructions: several times faster than residual by residual.
    """
    weight = rows[7, :count]
    residual = rows[6, :count]
    for p in range(6):
        first = rows[p, :count]
        total = np.float32(0.0)
        for i in range(count):
            total += weight[i] * first[i] * residual[i]
        b[p] += total
        for q in range(p + 1):
            second = rows[q, :count]
            total = np.float32(0.0)
            for i in range(count):
                total += weight[i] * first[i] * second[i]
            A[p, q] += total


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def rotation(wx, wy, wz, out):
    """The 3x3 matrix of a rotation vector (Rodrigues)."""
    angle = np.sqrt(wx * wx + wy * wy + wz * wz)
    if angle < 1e-9:
        a = 1.0
        b = 0.5
    else:
        a = np.sin(angle) / angle
        b = (1.0 - np.cos(angle)) / (angle * angle)
    out[0, 0] = 1.0 - b * (wy * wy + wz * wz)
    out[1, 1] = 1.0 - b * (wx * wx + wz * wz)
    out[2, 2] = 1.0 - b * (wx * wx + wy * wy)
    out[0, 1] = -a * wz + b * wx * wy
    out[1, 0] = a * wz + b * wx * wy
    out[0, 2] = a * wy + b * wx * wz
    out[2, 0] = -a * wy + b * wx * wz
    out[1, 2] = -a * wx + b * wy * wz
    out[2, 1] = a * wx + b * wy * wz


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def move(R, t, x, turn):
    """Apply the increment x = (rotation vector, translation) in camera axes about the object's centre.

    `turn` is scratch for the 3x3 rotation and holds it afterwards. Turning about the object's centre, not the
    camera's, keeps rotation and translation apart, so that damping one does not stall the other.
    """
    rotation(x[0], x[1], x[2], turn)
    for column in range(3):
        a = R[0, column]
        b = R[1, column]
        c = R[2, column]
        for row in range(3):
            R[row, column] = turn[row, 0] * a + turn[row, 1] * b + turn[row, 2] * c
    for row in range(3):
        t[row] += x[3 + row]
