"""Symmetries: reading, writing, sampling."""

from __future__ import annotations

import numpy as np
import pytest

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.symmetry import Symmetries

HALF_TURN = [-1, 0, 0, 4.0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
ROUND = {"axis": [0, 0, 2.0], "offset": [10.0, 0, 0]}


def test_millimetres_become_metres_and_come_back():
    symmetries = Symmetries.from_bop({"symmetries_discrete": [HALF_TURN], "symmetries_continuous": [ROUND]})
    np.testing.assert_allclose(symmetries.discrete[0, :3, 3], [0.004, 0, 0])
    np.testing.assert_allclose(symmetries.continuous[0].direction, [0, 0, 1])
    np.testing.assert_allclose(symmetries.continuous[0].offset_m, [0.01, 0, 0])
    entry = symmetries.to_bop()
    np.testing.assert_allclose(entry["symmetries_discrete"], [HALF_TURN])
    np.testing.assert_allclose(entry["symmetries_continuous"][0]["offset"], [10, 0, 0])
    again = Symmetries.from_bop(entry)
    np.testing.assert_allclose(again.discrete, symmetries.discrete)


def test_an_object_without_symmetries_has_the_identity_only():
    for symmetries in (Symmetries.none(), Symmetries.from_bop({"diameter": 3})):
        assert symmetries.is_trivial
        assert symmetries.to_bop() == {}
        np.testing.assert_array_equal(symmetries.transforms(), np.eye(4)[None])


def test_the_identity_in_a_file_is_not_counted_twice():
    symmetries = Symmetries.from_bop({"symmetries_discrete": [np.eye(4).tolist(), HALF_TURN]})
    assert len(symmetries.discrete) == 1
    assert len(symmetries.transforms()) == 2


def test_samples_of_an_axis_are_rotations_about_it_in_equal_steps():
    symmetries = Symmetries.from_bop({"symmetries_continuous": [ROUND]})
    transforms = symmetries.transforms(0.1)
    assert len(transforms) == 32  # ceil(pi / 0.1)
    np.testing.assert_array_equal(transforms[0], np.eye(4))
    on_axis = se3.apply(transforms, np.array([[0.01, 0, 0.3]]))
    np.testing.assert_allclose(on_axis, np.broadcast_to([0.01, 0, 0.3], on_axis.shape), atol=1e-12)
    steps = se3.geodesic_angle(transforms[:-1, :3, :3], transforms[1:, :3, :3])
    np.testing.assert_allclose(steps, 2 * np.pi / 32, atol=1e-9)
    assert len(symmetries.transforms()) == 315


def test_discrete_motions_come_before_rotations():
    symmetries = Symmetries.from_bop({"symmetries_discrete": [HALF_TURN], "symmetries_continuous": [ROUND]})
    transforms = symmetries.transforms(0.5)
    assert len(transforms) == 2 * 7
    turn = symmetries.continuous[0].rotation(2 * np.pi * 3 / 7)
    np.testing.assert_allclose(transforms[7 + 3], turn @ symmetries.discrete[0], atol=1e-12)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"symmetries_discrete": 3}, "symmetries_discrete"),
        ({"symmetries_discrete": [[1, 2, 3]]}, "symmetries_discrete[0]"),
        ({"symmetries_discrete": [HALF_TURN, ["x"] * 16]}, "symmetries_discrete[1]"),
        ({"symmetries_discrete": [np.diag([1, 1, -1, 1]).tolist()]}, "symmetries_discrete[0]"),
        ({"symmetries_discrete": [[float("nan")] * 16]}, "symmetries_discrete[0]"),
        ({"symmetries_discrete": [HALF_TURN] * 1001}, "symmetries_discrete"),
        ({"symmetries_continuous": [[0, 0, 1]]}, "symmetries_continuous[0]"),
        ({"symmetries_continuous": [{"axis": [0, 0, 0]}]}, "symmetries_continuous[0].axis"),
        ({"symmetries_continuous": [{"offset": [0, 0, 0]}]}, "symmetries_continuous[0].axis"),
        ({"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [1]}]}, "symmetries_continuous[0].offset"),
    ],
)
def test_what_is_wrong_is_named(entry: dict, field: str):
    with pytest.raises(InputError) as caught:
        Symmetries.from_bop(entry)
    assert (caught.value.code, caught.value.field) == ("symmetries_invalid", field)


@pytest.mark.parametrize("step", [0, -1, 4, float("nan")])
def test_a_step_is_above_zero(step: float):
    with pytest.raises(ValueError, match="max_step"):
        Symmetries.none().transforms(step)
