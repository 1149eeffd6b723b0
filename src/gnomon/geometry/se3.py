"""Rotations and rigid transforms as plain arrays: SO(3), SE(3) and unit quaternions.

A rotation is a 3x3 matrix, a rigid transform a 4x4 matrix `T_a_b` that maps points of frame b into frame a.
Every function takes any number of leading batch axes and computes in float64. A tangent vector of SO(3) is an
axis times an angle in radians; one of SE(3) is (translation part in metres, rotation part in radians), and
`se3_exp` is the matrix exponential, so that `se3_exp(adjoint(T) @ xi) == T @ se3_exp(xi) @ inverse(T)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
from jaxtyping import Bool, Float

Component = np.ndarray | np.float64
"""One number for each batch element; without batch axes NumPy makes it a scalar."""

_SERIES_BELOW_RAD = 0.3
"""Under this angle the closed forms below lose digits to cancellation and their Taylor series are exact."""


def skew(v: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The cross product as a matrix: `skew(v) @ w == cross(v, w)`."""
    x, y, z = np.moveaxis(np.asarray(v, np.float64), -1, 0)
    zero = np.zeros_like(x)
    return _stack_matrix([[zero, -z, y], [z, zero, -x], [-y, x, zero]])


# --- quaternions


def rotation_from_quat(quat_wxyz: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotation matrix of a quaternion, which need not have unit length.

    Raises:
        ValueError: A quaternion is zero or not finite and stands for no rotation.
    """
    quat = np.asarray(quat_wxyz, np.float64)
    length = np.linalg.norm(quat, axis=-1, keepdims=True)
    if not np.all(np.isfinite(length) & (length > 0)):
        raise ValueError("a quaternion that is zero or not finite stands for no rotation")
    w, x, y, z = np.moveaxis(quat / length, -1, 0)
    return _stack_matrix(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quat_from_rotation(R: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 4"]:
    """The unit quaternion wxyz of a rotation matrix, with w >= 0.

    At half a turn w is zero and either of the two signs may come out.
    """
    R = np.asarray(R, np.float64)
    # Row i holds 4 q_i (w, x, y, z). The row of the largest component divides by no small number.
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = (R[..., i, j] for i in range(3) for j in range(3))
    rows = _stack_matrix(
        [
            [1 + r00 + r11 + r22, r21 - r12, r02 - r20, r10 - r01],
            [r21 - r12, 1 + r00 - r11 - r22, r10 + r01, r02 + r20],
            [r02 - r20, r10 + r01, 1 - r00 + r11 - r22, r21 + r12],
            [r10 - r01, r02 + r20, r21 + r12, 1 - r00 - r11 + r22],
        ]
    )
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    quat = row / np.linalg.norm(row, axis=-1, keepdims=True)
    return np.where(quat[..., :1] < 0, -quat, quat)


# --- rotations


def so3_exp(omega: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotation by `|omega|` radians about the axis `omega`."""
    omega = np.asarray(omega, np.float64)
    half_angle = 0.5 * np.linalg.norm(omega, axis=-1, keepdims=True)
    # np.sinc(x) is sin(pi x) / (pi x), exact at zero.
    vector = 0.5 * np.sinc(half_angle / np.pi) * omega
    return rotation_from_quat(np.concatenate([np.cos(half_angle), vector], axis=-1))


def so3_log(R: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3"]:
    """The rotation vector of R, of length 0 to pi radians; at exactly pi either of its two signs."""
    quat = quat_from_rotation(R)
    w, vector = quat[..., :1], quat[..., 1:]
    sine = np.linalg.norm(vector, axis=-1, keepdims=True)
    # atan2 keeps every digit both near zero and near pi, where arccos of the trace loses half of them.
    angle_over_sine = np.divide(2 * np.arctan2(sine, w), sine, out=np.full_like(sine, 2.0), where=sine > 0)
    return angle_over_sine * vector


def geodesic_angle(
    R_a: Float[np.ndarray, "*#batch 3 3"], R_b: Float[np.ndarray, "*#batch 3 3"]
) -> Float[np.ndarray, "*batch"]:
    """The angle in radians, 0 to pi, of the rotation that takes R_a to R_b."""
    return np.asarray(np.linalg.norm(so3_log(np.swapaxes(R_a, -1, -2) @ R_b), axis=-1))


def nearest_rotation(M: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The rotation closest to M in the Frobenius norm.

    It is unique for every M of positive determinant. Raises numpy.linalg.LinAlgError if M is not finite.
    """
    M = np.asarray(M, np.float64)
    if not np.isfinite(M).all():
        raise np.linalg.LinAlgError("a matrix that is not finite has no nearest rotation")
    U, _, Vh = np.linalg.svd(M)
    # A reflection is turned back along the direction that matters least, the last one.
    U[..., :, 2] *= np.linalg.det(U @ Vh)[..., None]
    return U @ Vh


# --- rigid transforms


def se3(
    R: Float[np.ndarray, "*#batch 3 3"], translation_m: Float[np.ndarray, "*#batch 3"]
) -> Float[np.ndarray, "*batch 4 4"]:
    """The 4x4 matrix of a rotation and a translation in metres."""
    R, translation_m = np.asarray(R, np.float64), np.asarray(translation_m, np.float64)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], translation_m.shape[:-1]), 4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = translation_m
    T[..., 3, 3] = 1
    return T


def se3_exp(xi: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 4 4"]:
    """The rigid transform of a tangent vector (translation part in metres, rotation part in radians)."""
    xi = np.asarray(xi, np.float64)
    omega = xi[..., 3:]
    angle = np.linalg.norm(omega, axis=-1)
    # With K = skew(omega): translation = (I + (1 - cos a)/a^2 K + (a - sin a)/a^3 K^2) v
    first = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    second = _by_angle(angle, _sine_remainder, (1 / 6, -1 / 120, 1 / 5040, -1 / 362_880, 1 / 39_916_800))
    V = _quadratic(skew(omega), first, second)
    return se3(so3_exp(omega), (V @ xi[..., :3, None])[..., 0])


def se3_log(T: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 6"]:
    """The tangent vector (metres, radians) of a rigid transform; see `so3_log` for half a turn."""
    T = np.asarray(T, np.float64)
    omega = so3_log(T[..., :3, :3])
    angle = np.linalg.norm(omega, axis=-1)
    # The inverse of the matrix in `se3_exp`: I - K/2 + (1 - (a/2) cot(a/2))/a^2 K^2
    second = _by_angle(angle, _cotangent_remainder, (1 / 12, 1 / 720, 1 / 30_240, 1 / 1_209_600, 1 / 47_900_160))
    V_inverse = _quadratic(skew(omega), np.full_like(angle, -0.5), second)
    return np.concatenate([(V_inverse @ T[..., :3, 3, None])[..., 0], omega], axis=-1)


def compose(*transforms: Float[np.ndarray, "*#batch 4 4"]) -> Float[np.ndarray, "*batch 4 4"]:
    """Chain transforms: `compose(T_a_b, T_b_c)` is `T_a_c`. Without any it is the identity."""
    return reduce(np.matmul, transforms, np.eye(4))


def inverse(T_a_b: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 4 4"]:
    """`T_b_a` of a rigid `T_a_b`, by its transpose."""
    R_b_a = np.swapaxes(np.asarray(T_a_b, np.float64)[..., :3, :3], -1, -2)
    return se3(R_b_a, -(R_b_a @ T_a_b[..., :3, 3, None])[..., 0])


def apply(
    T_a_b: Float[np.ndarray, "*#batch 4 4"], points_b: Float[np.ndarray, "*#batch n 3"]
) -> Float[np.ndarray, "*batch n 3"]:
    """Map the n points of each batch element from frame b into frame a."""
    R_a_b = np.asarray(T_a_b, np.float64)[..., :3, :3]
    return points_b @ np.swapaxes(R_a_b, -1, -2) + T_a_b[..., None, :3, 3]


def adjoint(T_a_b: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 6 6"]:
    """The matrix that maps tangent vectors (translation, rotation) of frame b into frame a."""
    T_a_b = np.asarray(T_a_b, np.float64)
    R = T_a_b[..., :3, :3]
    matrix = np.zeros((*T_a_b.shape[:-2], 6, 6))
    matrix[..., :3, :3] = matrix[..., 3:, 3:] = R
    matrix[..., :3, 3:] = skew(T_a_b[..., :3, 3]) @ R
    return matrix


def is_rigid(T: Float[np.ndarray, "*batch 4 4"], atol: float = 1e-6) -> Bool[np.ndarray, "*batch"]:
    """Whether each matrix is rigid: R R^T = I and the last row (0, 0, 0, 1) within `atol`, and det R > 0."""
    T = np.asarray(T, np.float64)
    is_finite = np.asarray(np.isfinite(T).all(axis=(-2, -1)))
    T = np.where(is_finite[..., None, None], T, 0.0)
    R = T[..., :3, :3]
    is_orthonormal = (np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)) <= atol).all(axis=(-2, -1))
    has_last_row = (np.abs(T[..., 3, :] - [0, 0, 0, 1]) <= atol).all(axis=-1)
    return np.asarray(is_finite & is_orthonormal & has_last_row & (np.linalg.det(R) > 0))


# --- pieces


def _stack_matrix(rows: list[list[Component]]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _quadratic(K: np.ndarray, first: Component, second: Component) -> np.ndarray:
    """I + first K + second K^2, the coefficients one for each batch element."""
    return np.eye(3) + _per_matrix(first) * K + _per_matrix(second) * (K @ K)


def _per_matrix(coefficient: Component) -> np.ndarray:
    return np.asarray(coefficient)[..., None, None]


def _sine_remainder(angle: Component) -> Component:
    return (angle - np.sin(angle)) / angle**3


def _cotangent_remainder(angle: Component) -> Component:
    half = 0.5 * angle
    return (1 - half / np.tan(half)) / angle**2


def _by_angle(
    angle: Component, closed_form: Callable[[Component], Component], even_series: tuple[float, ...]
) -> Component:
    """A coefficient by its closed form, and near zero by its series in angle^2."""
    is_small = angle < _SERIES_BELOW_RAD
    series = np.polynomial.polynomial.polyval(np.where(is_small, angle, 0.0) ** 2, even_series)
    return np.where(is_small, series, closed_form(np.where(is_small, 1.0, angle)))
