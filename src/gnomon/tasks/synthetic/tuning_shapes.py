"""The shapes that methods may be tuned with."""

from __future__ import annotations

import numpy as np

from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.labels import labelled_can, speckled_box
from gnomon.tasks.synthetic.parts import arc, box, cylinder, ellipsoid, joined, moved, prism, revolve, tube


def mug() -> Mesh:
    """Hollow, 8 cm wide, with a handle towards +x."""
    wall = revolve([(0, 0), (0.04, 0), (0.04, 0.1), (0.036, 0.1), (0.036, 0.005), (0, 0.005)])
    # Its ends lie inside the wall.
    handle = moved(tube(arc(0.028, -117, 117, 36, axes="xz"), 0.006), (0.052, 0, 0.05))
    return joined(wall, handle)


def bracket() -> Mesh:
    """A plate, a wall at its end and a stud beside the middle."""
    plate = box((0.12, 0.05, 0.012))
    wall = box((0.012, 0.05, 0.08), (-0.054, 0, 0.04))
    return joined(plate, wall, moved(cylinder(0.012, 0.03), (0.035, 0.008, 0.02)))


def bottle() -> Mesh:
    """20 cm high, with a neck."""
    body = [(0, 0), (0.033, 0), (0.035, 0.002), (0.035, 0.12)]
    return revolve([*body, (0.03, 0.14), (0.02, 0.158), (0.014, 0.17), (0.014, 0.2), (0, 0.2)])


def bowl() -> Mesh:
    """15 cm wide and open."""
    return revolve(
        [(0, 0), (0.03, 0), (0.06, 0.02), (0.075, 0.06), (0.071, 0.06), (0.057, 0.023), (0.028, 0.004), (0, 0.004)]
    )


def plain_box() -> Mesh:
    return box((0.16, 0.1, 0.05))


def cube() -> Mesh:
    return box((0.08, 0.08, 0.08))


def textured_can() -> Mesh:
    return labelled_can(0.033, 0.12, seed=1)


def textured_box() -> Mesh:
    return speckled_box((0.16, 0.1, 0.05), seed=2)


def airplane() -> Mesh:
    """20 cm long, its nose towards +x."""
    hull = moved(
        revolve([(0, -0.1), (0.004, -0.1), (0.013, -0.03), (0.014, 0.03), (0.01, 0.075), (0.004, 0.094), (0, 0.098)]),
        turn_deg=90,
        axis="y",
    )
    wing = np.array([(0.035, 0.0), (-0.02, 0.105), (-0.042, 0.105), (-0.025, 0.0), (-0.042, -0.105), (-0.02, -0.105)])
    tail = np.array([(-0.072, 0.0), (-0.09, 0.04), (-0.1, 0.04), (-0.096, 0.0), (-0.1, -0.04), (-0.09, -0.04)])
    fin = np.array([(-0.068, 0.0), (-0.092, 0.042), (-0.102, 0.042), (-0.098, 0.0)])
    engine = moved(cylinder(0.006, 0.03, 24), turn_deg=90, axis="y")
    engines = [moved(engine, (0.0, side * 0.045, -0.008)) for side in (-1, 1)]
    parts = [moved(prism(wing, 0.003), (0, 0, -0.003)), prism(tail, 0.0025)]
    return joined(hull, *parts, *engines, moved(prism(fin, 0.0025), turn_deg=90, axis="x"))


def ant() -> Mesh:
    """15 cm long, on six thin legs, its head towards +x."""
    bodies = [
        moved(ellipsoid((0.034, 0.022, 0.02)), (-0.045, 0, 0.008)),
        ellipsoid((0.022, 0.012, 0.012)),
        moved(ellipsoid((0.018, 0.016, 0.013)), (0.034, 0, 0.006)),
    ]
    limbs = []
    for side in (-1.0, 1.0):
        for at, reach in ((0.013, 0.03), (0.0, 0.0), (-0.013, -0.035)):
            hip, knee = (at, side * 0.008, 0), (at + 0.5 * reach, side * 0.035, 0.022)
            limbs.append(tube(np.array([hip, knee, (at + reach, side * 0.06, -0.03)]), 0.002, 10))
        feeler = [(0.045, side * 0.006, 0.012), (0.062, side * 0.02, 0.026), (0.078, side * 0.024, 0.018)]
        limbs.append(tube(np.array(feeler), 0.0014, 8))
    return joined(*bodies, *limbs)
