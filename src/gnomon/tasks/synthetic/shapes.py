"""The procedural shapes by name, with their symmetries: some to tune with, others only to report on."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.synthetic import reporting_household as household
from gnomon.tasks.synthetic import reporting_shapes as tools
from gnomon.tasks.synthetic import tuning_parts as more
from gnomon.tasks.synthetic import tuning_shapes as tuning


@dataclass(frozen=True, eq=False)
class Shape:
    """An object whose pose is to be found."""

    name: str
    mesh: Mesh
    """Vertices in metres."""
    symmetries: Symmetries
    """All rigid motions, no reflections, that leave form and colours as they are."""

    @property
    def is_coloured(self) -> bool:
        """Whether the mesh has colours; what has none may be photographed in any one colour."""
        mesh = self.mesh
        return mesh.face_rgb is not None or mesh.vertex_rgb is not None or bool(mesh.textures)


def make_shape(name: str) -> Shape:
    """The procedural shape of one of the names in `TUNING` and `REPORTING`. Raises InputError for another name."""
    if name not in _BUILDERS:
        raise InputError(
            f"there is no synthetic shape {name!r}",
            field="name",
            value=name,
            expected="one of: " + ", ".join(_BUILDERS),
            fix="take a name of TUNING or REPORTING",
        )
    return _built(name)


@functools.cache
def _built(name: str) -> Shape:
    build, symmetries = _BUILDERS[name]
    return Shape(name, build(), symmetries())


def _none() -> Symmetries:
    return Symmetries.none()


def _turns(*axes: tuple[float, float, float], of: int = 2) -> Callable[[], Symmetries]:
    """Turns by whole multiples of 360 degrees / `of` about each axis, none of which is counted twice."""

    def symmetries() -> Symmetries:
        angles = 2 * np.pi * np.arange(1, of) / of
        units = [np.array(axis) / np.linalg.norm(axis) for axis in axes]
        return _motions([se3.so3_exp(unit * angle) for unit in units for angle in angles])

    return symmetries


def _revolved(*, flips: bool = False) -> Callable[[], Symmetries]:
    """Any turn about z; with `flips` also half a turn about any axis across."""

    def symmetries() -> Symmetries:
        discrete = _motions([np.diag([1.0, -1, -1])] if flips else [])
        return Symmetries(discrete.discrete, (Axis(np.array([0.0, 0, 1]), np.zeros(3)),))

    return symmetries


def _prism_group(order: int) -> Callable[[], Symmetries]:
    """Turns about z by multiples of 360 degrees / order, and half turns about axes across, one of them x."""

    def symmetries() -> Symmetries:
        turns = [se3.so3_exp(np.array([0, 0, 2 * np.pi * i / order])) for i in range(order)]
        return _motions([*turns[1:], *(turn @ np.diag([1.0, -1, -1]) for turn in turns)])

    return symmetries


def _cube_group() -> Symmetries:
    turns = []
    for places, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        R = np.zeros((3, 3))
        R[range(3), places] = signs
        if np.linalg.det(R) > 0 and not np.array_equal(R, np.eye(3)):
            turns.append(R)
    return _motions(turns)


def _motions(rotations: list[Float64[np.ndarray, "3 3"]]) -> Symmetries:
    return Symmetries(se3.se3(np.array(rotations).reshape(-1, 3, 3), np.zeros(3)).reshape(-1, 4, 4))


_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

_TUNING: dict[str, tuple[Callable[[], Mesh], Callable[[], Symmetries]]] = {
    "mug": (tuning.mug, _none),
    "bracket": (tuning.bracket, _none),
    "bottle": (tuning.bottle, _revolved()),
    "bowl": (tuning.bowl, _revolved()),
    "box": (tuning.plain_box, _turns(_X, _Y, _Z)),
    "cube": (tuning.cube, _cube_group),
    "textured_can": (tuning.textured_can, _none),
    "textured_box": (tuning.textured_box, _none),
    "airplane": (tuning.airplane, _none),
    "ant": (tuning.ant, _none),
    "spatula": (more.spatula, _none),
    "torch": (more.torch, _none),
    "kettle": (more.kettle, _none),
    "club": (more.club, _turns(_X, of=4)),
    "pan": (more.pan, _none),
    "slot_plate": (more.slot_plate, _none),
    "clamp": (more.clamp, _none),
    "rail": (more.rail, _none),
    "cap": (more.cap, _none),
    "sprocket": (more.sprocket, _none),
    "lobed_disc": (more.lobed_disc, _turns((-0.5, np.sqrt(0.75), 0.0))),
    "cog": (more.cog, _none),
    "trestle": (more.trestle, _none),
}

_REPORTING: dict[str, tuple[Callable[[], Mesh], Callable[[], Symmetries]]] = {
    "notched_plate": (tools.notched_plate, _none),
    "spanner": (tools.spanner, _none),
    "t_key": (tools.t_key, _turns(_Z)),
    "hex_key": (tools.hex_key, _none),
    "hammer": (tools.hammer, _none),
    "screwdriver": (tools.screwdriver, _turns(_Z)),
    "drill": (tools.drill, _none),
    "pipe_elbow": (tools.pipe_elbow, _turns((1, 1, 0))),
    "broken_gear": (tools.broken_gear, _none),
    "scissors": (tools.scissors, _none),
    "knob_torus": (tools.knob_torus, _none),
    "l_profile": (tools.l_profile, _turns((1, 1, 0))),
    "hex_nut": (tools.hex_nut, _prism_group(6)),
    "dumbbell": (tools.dumbbell, _revolved(flips=True)),
    "teapot": (household.teapot, _none),
    "two_handled_cup": (household.two_handled_cup, _turns(_Z)),
    "tray": (household.tray, _turns(_Z)),
    "dining_chair": (household.dining_chair, _none),
    "stool": (household.stool, _turns(_Z, of=3)),
    "plug": (household.plug, _none),
    "cereal_box": (household.cereal_box, _none),
    "desk_lamp": (household.desk_lamp, _none),
}

_BUILDERS = _TUNING | _REPORTING

TUNING = tuple(_TUNING)
"""Shapes that methods may be tuned with."""

REPORTING = tuple(_REPORTING)
"""Shapes of other kinds, for the figures that are reported; never to be used for tuning."""
