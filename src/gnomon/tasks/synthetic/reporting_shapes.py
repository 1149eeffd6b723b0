"""Shapes that figures are reported for: tools, machine parts and flat things. Never to be used for tuning."""

from __future__ import annotations

import numpy as np

from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.parts import arc, box, cylinder, ellipsoid, joined, moved, painted, prism, revolve, tube

_STEEL, _WOOD, _RED, _YELLOW, _BLACK = (176, 180, 186), (168, 120, 70), (190, 40, 36), (232, 182, 30), (52, 52, 56)


def notched_plate() -> Mesh:
    """100 x 60 mm and 1.5 mm thick, with a hole, a notch and a cut corner."""
    notched = [(-50, -30), (50, -30), (50, 30), (22, 30), (22, 14), (8, 14), (8, 30), (-38, 30), (-50, 18)]
    hole = arc(0.009, count=32)[:, :2] + (-0.026, -0.008)
    return prism(np.array(notched) / 1000, 0.0015, [hole])


def spanner() -> Mesh:
    """17 cm long; its two jaws lean the same way and differ by a fifth in size, so that it is nearly symmetric."""
    shaft = box((0.12, 0.014, 0.005))
    big, small = _jaw(0.019, 0.0085), _jaw(0.0155, 0.007)
    return joined(
        shaft,
        moved(moved(big, turn_deg=15), (0.07, 0, 0)),
        moved(moved(small, turn_deg=195), (-0.07, 0, 0)),
    )


def _jaw(radius_m: float, mouth_m: float) -> Mesh:
    """The head of a spanner: a disc with a slot open towards +x."""
    half_rad = np.arcsin(mouth_m / radius_m)
    rim = arc(radius_m, np.degrees(half_rad), 360 - np.degrees(half_rad), 40)[:, :2]
    return prism(np.concatenate((rim, [(-0.002, -mouth_m), (-0.002, mouth_m)])), 0.008)


def t_key() -> Mesh:
    """A box spanner with a crossbar: half a turn about its shaft changes nothing."""
    shaft = revolve([(0, 0), (0.0085, 0), (0.0085, 0.03), (0.005, 0.035), (0.005, 0.13), (0, 0.13)], 48)
    return joined(shaft, moved(moved(cylinder(0.006, 0.11, 48), turn_deg=90, axis="y"), (0, 0, 0.125)))


def hex_key() -> Mesh:
    """A hexagonal bar bent to an L, 9 x 3 cm."""
    bend = arc(0.01, 180, 270, 10, axes="xz") + np.array((0.01, 0, 0.01))
    path = np.concatenate(([(0, 0, 0.09)], bend, [(0.03, 0, 0)]))
    return tube(path, 0.004, 6)


def hammer() -> Mesh:
    """30 cm of wooden handle with a steel head that has a face and a claw."""
    handle = moved(cylinder(0.011, 0.26, 32), (0, 0, -0.13))
    head = box((0.05, 0.026, 0.026))
    face = moved(cylinder(0.015, 0.03, 32), turn_deg=90, axis="y")
    claw = np.array([(-0.02, -0.013), (-0.065, -0.03), (-0.068, -0.026), (-0.045, 0.0), (-0.02, 0.013)])
    claws = [moved(prism(claw, 0.009), (0, 0, shift)) for shift in (-0.0085, 0.0085)]
    turned = [moved(part, turn_deg=90, axis="x") for part in claws]
    steel = joined(head, moved(face, (0.038, 0, 0)), *turned)
    return joined(painted(handle, _WOOD), painted(steel, _STEEL))


def screwdriver() -> Mesh:
    """20 cm; flat blade and fluted handle, so that half a turn changes nothing."""
    angle = 2 * np.pi * np.arange(72) / 72
    radius = 0.014 + 0.0015 * np.cos(6 * angle)
    grip = prism(np.column_stack((radius * np.cos(angle), radius * np.sin(angle))), 0.085)
    cap = revolve([(0, -0.008), (0.008, -0.006), (0.011, 0.001), (0, 0.001)], 48)
    shaft = moved(cylinder(0.0035, 0.09, 32), (0, 0, 0.13))
    blade = box((0.009, 0.0014, 0.02), (0, 0, 0.18))
    plastic = joined(moved(grip, (0, 0, 0.0425)), cap)
    return joined(painted(plastic, _RED), painted(joined(shaft, blade), _STEEL))


def drill() -> Mesh:
    """A cordless drill, 19 cm long: motor, chuck, leaning handle and battery."""
    motor = moved(
        revolve([(0, -0.075), (0.02, -0.075), (0.028, -0.06), (0.028, 0.045), (0.022, 0.055), (0, 0.055)], 40)
    )
    chuck = revolve([(0, 0.05), (0.019, 0.05), (0.019, 0.085), (0.008, 0.11), (0, 0.11)], 32)
    handle = moved(box((0.034, 0.03, 0.11)), (-0.035, 0, -0.07), turn_deg=10, axis="y")
    battery = box((0.085, 0.055, 0.035), (-0.03, 0, -0.135))
    trigger = box((0.012, 0.014, 0.03), (-0.006, 0, -0.042))
    along_x = [moved(part, turn_deg=90, axis="y") for part in (motor, chuck)]
    return joined(
        painted(along_x[0], _YELLOW),
        painted(along_x[1], _STEEL),
        painted(handle, _YELLOW),
        painted(joined(battery, trigger), _BLACK),
    )


def pipe_elbow() -> Mesh:
    """A quarter bend with a flange at both ends: half a turn about the diagonal between them changes nothing."""
    bend = tube(arc(0.05, 0, 90, 32), 0.018, 40)
    flange = cylinder(0.028, 0.008, 48)
    at_x = moved(moved(flange, turn_deg=90, axis="x"), (0.05, -0.004, 0))
    at_y = moved(moved(flange, turn_deg=90, axis="y"), (-0.004, 0.05, 0))
    return joined(bend, at_x, at_y)


def broken_gear() -> Mesh:
    """14 teeth of 15, and a hub on one side."""
    teeth, inner, outer = 15, 0.038, 0.045
    outline = []
    for tooth in range(teeth):
        start = 360 / teeth * tooth
        top = inner if tooth == 4 else outer
        for radius, at in ((inner, 0), (inner, 6.5), (top, 9.5), (top, 14.5), (inner, 17.5)):
            angle = np.radians(start + at)
            outline.append((radius * np.cos(angle), radius * np.sin(angle)))
    wheel = prism(np.array(outline), 0.012, [arc(0.008, count=32)[:, :2]])
    hub = prism(arc(0.016, count=48)[:, :2], 0.014, [arc(0.008, count=32)[:, :2]])
    return joined(wheel, moved(hub, (0, 0, 0.012)))


def scissors() -> Mesh:
    """Half open, 17 cm long, with one ring wider than the other."""
    blade = np.array([(-0.012, -0.005), (0.0, -0.007), (0.085, 0.0), (0.0, 0.006), (-0.012, 0.005)])
    arms = []
    for turn, side, radius, height in ((13, -1, 0.02, -0.0016), (-13, 1, 0.026, 0.0016)):
        shank = tube(np.array([(-0.01, 0, 0), (-0.035, side * 0.004, 0), (-0.06, side * 0.004, 0)]), 0.0042, 16)
        ring = moved(tube(arc(radius, count=40), 0.0042, 12, ring=True), (-0.06 - radius, side * 0.006, 0))
        colour = _RED if side > 0 else _BLACK
        arm = joined(painted(prism(blade * (1, side), 0.003), _STEEL), painted(joined(shank, ring), colour))
        arms.append(moved(moved(arm, (0, 0, height)), turn_deg=turn))
    return joined(*arms, painted(cylinder(0.005, 0.009, 24), _STEEL))


def knob_torus() -> Mesh:
    """A ring with a knob on its upper side."""
    return joined(
        tube(arc(0.045, count=64), 0.013, 32, ring=True), moved(ellipsoid((0.009, 0.009, 0.016)), (0.045, 0, 0.016))
    )


def l_profile() -> Mesh:
    """An angle bar with equal legs: half a turn about the diagonal across its middle changes nothing."""
    leg, wall = 0.04, 0.005
    outline = np.array([(0, 0), (leg, 0), (leg, wall), (wall, wall), (wall, leg), (0, leg)])
    return prism(outline, 0.12)


def hex_nut() -> Mesh:
    """36 mm across the flats: twelve turns leave it as it is."""
    corner = 0.018 / np.cos(np.pi / 6)
    return prism(arc(corner, count=6)[:, :2], 0.022, [arc(0.0115, count=60)[:, :2]])


def dumbbell() -> Mesh:
    """A bar between two balls, of revolution and the same from both ends."""
    balls = [moved(ellipsoid((0.028, 0.028, 0.028), 40), (0, 0, side * 0.06)) for side in (-1, 1)]
    return joined(cylinder(0.01, 0.1, 40), *balls)
