"""The group axioms over elements that are random, tangent-sampled, near the identity and near half a turn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.geometry import se3

units = st.floats(-1.0, 1.0)
vectors = st.tuples(units, units, units).map(np.array)
axes = vectors.filter(lambda v: np.linalg.norm(v) > 1e-3).map(lambda v: v / np.linalg.norm(v))
tiny = st.floats(-12.0, -1.0).map(lambda exponent: 10.0**exponent)
angles = st.one_of(
    st.floats(0.0, math.pi - 1e-9),
    tiny,
    tiny.map(lambda small: math.pi - small),
    st.sampled_from([0.0, 1e-300, 1e-160, 1e-9, 0.3, math.nextafter(0.3, 0), 1.0, math.pi / 2]),
)
rotation_vectors = st.builds(lambda axis, angle: axis * angle, axes, angles)
quats = st.tuples(units, units, units, units).map(np.array).filter(lambda q: np.linalg.norm(q) > 1e-3)
rotations = st.one_of(quats.map(se3.rotation_from_quat), rotation_vectors.map(se3.so3_exp))
tangents = st.builds(lambda v, omega: np.concatenate([3 * v, omega]), vectors, rotation_vectors)
transforms = st.one_of(
    tangents.map(se3.se3_exp),
    st.builds(lambda R, t: se3.se3(R, 3 * t), rotations, vectors),
)


def close(actual, expected, atol=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def exponential_by_series(matrix: np.ndarray) -> np.ndarray:
    """The matrix exponential the slow way: a Taylor series of the halved matrix, squared back."""
    halvings = 8
    term = total = np.eye(len(matrix))
    for order in range(1, 16):
        term = term @ (matrix / 2**halvings) / order
        total = total + term
    return np.linalg.matrix_power(total, 2**halvings)


# --- axioms


@given(transforms, transforms, transforms)
def test_composition_is_associative(a, b, c):
    close(se3.compose(a, se3.compose(b, c)), se3.compose(se3.compose(a, b), c))
    close(se3.compose(a, b, c), a @ b @ c)


@given(transforms)
def test_the_inverse_undoes(T):
    close(se3.compose(T, se3.inverse(T)), np.eye(4))
    close(se3.compose(se3.inverse(T), T), np.eye(4))
    close(se3.compose(), np.eye(4))


@given(transforms, transforms)
def test_the_group_is_closed(a, b):
    assert se3.is_rigid(se3.compose(a, b), atol=1e-12)
    assert se3.is_rigid(se3.inverse(a), atol=1e-12)


@given(transforms, transforms, st.lists(vectors, min_size=1, max_size=4).map(np.stack))
def test_applying_follows_composition(a, b, points):
    close(se3.apply(se3.compose(a, b), points), se3.apply(a, se3.apply(b, points)))
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    close(se3.apply(a, points), (homogeneous @ a.T)[:, :3])


# --- exponential and logarithm


@given(rotation_vectors)
def test_so3_log_inverts_exp(omega):
    close(se3.so3_log(se3.so3_exp(omega)), omega, atol=1e-11)


@given(rotations)
def test_so3_exp_inverts_log(R):
    omega = se3.so3_log(R)
    assert np.linalg.norm(omega) <= math.pi + 1e-12
    close(se3.so3_exp(omega), R)


@given(axes, tiny)
def test_so3_log_keeps_the_relative_precision_of_tiny_angles(axis, angle):
    np.testing.assert_allclose(np.linalg.norm(se3.so3_log(se3.so3_exp(axis * angle))), angle, rtol=1e-12)


@given(axes, tiny)
def test_so3_log_keeps_the_angle_near_half_a_turn(axis, short_of_pi):
    omega = se3.so3_log(se3.so3_exp(axis * (math.pi - short_of_pi)))
    close(np.linalg.norm(omega), math.pi - short_of_pi, atol=8e-15)


@given(axes)
def test_so3_log_of_exactly_half_a_turn_is_the_axis_up_to_sign(axis):
    R = 2 * np.outer(axis, axis) - np.eye(3)
    omega = se3.so3_log(R)
    close(np.linalg.norm(omega), math.pi)
    close(abs(omega @ axis), math.pi)


@given(rotation_vectors)
def test_so3_exp_is_the_matrix_exponential(omega):
    close(se3.so3_exp(omega), exponential_by_series(se3.skew(omega)))


def test_angles_beyond_a_turn_wrap():
    close(se3.so3_exp(np.array([0, 0, 5 * math.pi])), np.diag([-1.0, -1, 1]))
    close(se3.so3_log(se3.so3_exp(np.array([0, 0, 1.5 * math.pi]))), [0, 0, -0.5 * math.pi])


@given(tangents)
def test_se3_exp_is_the_matrix_exponential(xi):
    generator = np.zeros((4, 4))
    generator[:3, :3] = se3.skew(xi[3:])
    generator[:3, 3] = xi[:3]
    close(se3.se3_exp(xi), exponential_by_series(generator))


@given(tangents)
def test_se3_log_inverts_exp(xi):
    close(se3.se3_log(se3.se3_exp(xi)), xi, atol=1e-10)


@pytest.mark.parametrize("angle", [0.05, 0.15, 0.29999, 0.30001, 0.5])
def test_series_and_closed_form_agree_where_they_meet(angle):
    xi = np.array([3.0, -2, 0, 0, 0, angle])
    close(se3.se3_log(se3.se3_exp(xi)), xi, atol=1e-13)


@given(transforms)
def test_se3_exp_inverts_log(T):
    close(se3.se3_exp(se3.se3_log(T)), T, atol=1e-11)


@given(transforms, tangents)
def test_the_adjoint_carries_tangents_across(T, xi):
    close(se3.se3_exp(se3.adjoint(T) @ xi), T @ se3.se3_exp(xi) @ se3.inverse(T), atol=1e-11)


@given(transforms, transforms)
def test_the_adjoint_is_a_homomorphism(a, b):
    close(se3.adjoint(se3.compose(a, b)), se3.adjoint(a) @ se3.adjoint(b), atol=1e-11)


# --- quaternions


@given(rotations)
def test_quaternion_round_trip(R):
    quat = se3.quat_from_rotation(R)
    assert quat[0] >= 0
    close(np.linalg.norm(quat), 1)
    close(se3.rotation_from_quat(quat), R)


@given(quats)
def test_scale_and_sign_of_a_quaternion_do_not_matter(quat):
    R = se3.rotation_from_quat(quat)
    close(se3.rotation_from_quat(-7.5 * quat), R)
    unit = quat / np.linalg.norm(quat)
    assert abs(se3.quat_from_rotation(R) @ unit) == pytest.approx(1, abs=1e-12)


def test_the_order_is_wxyz_and_the_turn_right_handed():
    quarter_about_z = np.array([math.sqrt(0.5), 0, 0, math.sqrt(0.5)])
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    close(se3.rotation_from_quat(quarter_about_z), R)
    close(se3.quat_from_rotation(R), quarter_about_z)
    close(se3.so3_exp(np.array([0, 0, math.pi / 2])), R)


@pytest.mark.parametrize("quat", [[0.0, 0, 0, 0], [math.nan, 0, 0, 1], [math.inf, 0, 0, 1]])
def test_a_quaternion_without_direction_is_refused(quat):
    with pytest.raises(ValueError, match="stands for no rotation"):
        se3.rotation_from_quat(np.array([[1.0, 0, 0, 0], quat]))


# --- distances and repair


@given(rotations, axes, angles)
def test_geodesic_angle_is_the_angle_turned(R, axis, angle):
    turned = R @ se3.so3_exp(axis * angle)
    close(se3.geodesic_angle(R, turned), angle, atol=1e-13)
    close(se3.geodesic_angle(turned, R), se3.geodesic_angle(R, turned), atol=1e-13)


@given(rotations, st.floats(0.1, 10.0))
def test_nearest_rotation_forgets_scale(R, scale):
    close(se3.nearest_rotation(scale * R), R)


@given(st.lists(units, min_size=9, max_size=9), rotations)
def test_no_other_rotation_is_nearer(entries, other):
    M = np.reshape(entries, (3, 3))
    nearest = se3.nearest_rotation(M)
    close(nearest @ nearest.T, np.eye(3))
    assert np.linalg.det(nearest) == pytest.approx(1)
    assert np.linalg.norm(M - nearest) <= np.linalg.norm(M - other) + 1e-12


def test_nearest_rotation_refuses_what_is_not_finite():
    with pytest.raises(np.linalg.LinAlgError):
        se3.nearest_rotation(np.full((3, 3), np.nan))


def test_is_rigid_tells_each_element_of_a_batch():
    mirrored = np.diag([1.0, 1, -1, 1])
    scaled = np.diag([1.001, 1, 1, 1])
    projective = np.eye(4) + 1e-3 * np.eye(4)[[3, 0, 1, 2]]
    broken = np.full((4, 4), np.nan)
    T = np.stack([np.eye(4), mirrored, scaled, projective, broken])
    np.testing.assert_array_equal(se3.is_rigid(T), [True, False, False, False, False])
    assert se3.is_rigid(scaled, atol=0.01)


# --- batches


def test_batches_give_what_the_elements_give():
    rng = np.random.default_rng(5)
    xi = rng.normal(size=(2, 3, 6)) * np.array([1e-9, 0.1, 1.0])[:, None]
    points = rng.normal(size=(2, 3, 5, 3))
    T = se3.se3_exp(xi)
    assert T.shape == (2, 3, 4, 4)
    for at in np.ndindex(2, 3):
        close(T[at], se3.se3_exp(xi[at]), atol=0)
        close(se3.se3_log(T)[at], se3.se3_log(T[at]), atol=1e-15)
        close(se3.inverse(T)[at], se3.inverse(T[at]), atol=1e-15)
        close(se3.adjoint(T)[at], se3.adjoint(T[at]), atol=1e-15)
        close(se3.apply(T, points)[at], se3.apply(T[at], points[at]), atol=1e-15)
    angles_rad = se3.geodesic_angle(T[..., :3, :3], np.eye(3))
    close(angles_rad, np.linalg.norm(xi[..., 3:], axis=-1))


def test_single_precision_input_is_computed_in_double():
    xi = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    assert se3.se3_log(se3.se3_exp(xi)).dtype == np.float64


def test_one_translation_spreads_over_a_batch_of_rotations():
    R = se3.so3_exp(np.array([[0.1, 0, 0], [0, 0.2, 0]]))
    assert se3.se3(R, np.array([1.0, 2, 3])).shape == (2, 4, 4)
