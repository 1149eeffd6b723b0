"""Shapes that figures are reported for: vessels, furniture and packages. Never to be used for tuning."""

from __future__ import annotations

import numpy as np

from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.labels import label, labelled_box
from gnomon.tasks.synthetic.parts import arc, box, cylinder, ellipsoid, joined, moved, painted, prism, revolve, tube


def teapot() -> Mesh:
    """A round body with spout towards +x, handle, lid and knob."""
    body = [
        (0, 0),
        (0.035, 0),
        (0.056, 0.025),
        (0.06, 0.045),
        (0.052, 0.07),
        (0.032, 0.083),
        (0.03, 0.09),
        (0.012, 0.097),
    ]
    knob = [(0.005, 0.101), (0.01, 0.108), (0.008, 0.115), (0, 0.117)]
    spout = np.array([(0.045, 0, 0.03), (0.07, 0, 0.04), (0.083, 0, 0.06), (0.09, 0, 0.082), (0.1, 0, 0.09)])
    handle = arc(0.03, 70, 290, 28, axes="xz") * (1.05, 1, 1) + (-0.056, 0, 0.048)
    return joined(revolve([*body, *knob]), tube(spout, [0.016, 0.013, 0.01, 0.008, 0.007], 24), tube(handle, 0.006, 20))


def two_handled_cup() -> Mesh:
    """A soup cup: half a turn about its axis changes nothing."""
    wall = revolve(
        [(0, 0), (0.035, 0), (0.052, 0.03), (0.055, 0.06), (0.0515, 0.06), (0.0485, 0.031), (0.032, 0.004), (0, 0.004)]
    )
    handle = moved(tube(arc(0.018, -105, 105, 28, axes="xz"), 0.0048, 20), (0.057, 0, 0.038))
    return joined(wall, handle, moved(handle, turn_deg=180))


def tray() -> Mesh:
    """24 x 16 cm with a rim: half a turn changes nothing."""
    long, short = box((0.24, 0.006, 0.025), (0, 0.077, 0.0125)), box((0.006, 0.16, 0.025), (0.117, 0, 0.0125))
    rims = [long, moved(long, turn_deg=180), short, moved(short, turn_deg=180)]
    return joined(box((0.24, 0.16, 0.004), (0, 0, 0.002)), *rims)


def dining_chair() -> Mesh:
    """A toy chair 16 cm high: seat, four legs and a back of three slats."""
    legs = [box((0.009, 0.009, 0.075), (x, y, -0.04)) for x in (-0.034, 0.034) for y in (-0.034, 0.034)]
    posts = [box((0.009, 0.009, 0.09), (-0.034, y, 0.045)) for y in (-0.034, 0.034)]
    slats = [box((0.005, 0.068, 0.012), (-0.034, 0, z)) for z in (0.03, 0.054, 0.078)]
    return joined(box((0.08, 0.08, 0.008)), *legs, *posts, *slats)


def stool() -> Mesh:
    """A round seat on three splayed legs: turns by a third leave it as it is."""
    leg = tube(np.array([(0.025, 0, -0.003), (0.045, 0, -0.09)]), 0.0055, 24)
    return joined(cylinder(0.045, 0.012, 60), *(moved(leg, turn_deg=turn) for turn in (0, 120, 240)))


def plug() -> Mesh:
    """A mains plug with three flat pins and a cable."""
    outline = np.array(
        [(-0.025, -0.02), (0.025, -0.02), (0.025, 0.008), (0.012, 0.026), (-0.012, 0.026), (-0.025, 0.008)]
    )
    pins = [box((0.0065, 0.004, 0.02), (x, -0.006, 0.022)) for x in (-0.011, 0.011)]
    earth = box((0.004, 0.008, 0.024), (0, 0.013, 0.024))
    cable = np.array([(0, -0.018, 0), (0, -0.035, 0), (0.004, -0.055, -0.004), (0.016, -0.07, -0.01)])
    case = joined(prism(outline, 0.026), tube(cable, 0.004, 16))
    return joined(painted(case, (236, 236, 230)), painted(joined(*pins, earth), (200, 170, 90)))


def cereal_box() -> Mesh:
    """19 x 7 x 27 cm at a scale of 0.7; front and back differ by one patch only, as do the two narrow sides."""
    front, side = label(41, 160, 220, patches=30), label(43, 60, 220, patches=16)
    back, other = front.copy(), side.copy()
    back[150:195, 20:80] = label(42, 60, 45, patches=6)
    other[20:70, 8:52] = label(44, 44, 50, patches=6)
    ends = [label(seed, 60, 160, patches=8) for seed in (45, 46)]
    return labelled_box((0.133, 0.049, 0.189), [_upright(side), _upright(other), _turned(front), _turned(back), *ends])


def _upright(picture: np.ndarray) -> np.ndarray:
    """For sides whose width runs along y and whose height along z."""
    return picture


def _turned(picture: np.ndarray) -> np.ndarray:
    """For sides whose width runs along z and whose height along x."""
    return np.ascontiguousarray(np.rot90(picture))


def desk_lamp() -> Mesh:
    """A foot, two arms and a shade, 18 cm high."""
    foot = moved(cylinder(0.035, 0.01, 48), (0, 0, 0.005))
    arms = tube(np.array([(0.0, 0, 0.008), (-0.035, 0, 0.085), (0.03, 0, 0.15)]), 0.004, 16)
    shade = revolve([(0, -0.002), (0.012, 0), (0.034, -0.04), (0.031, -0.04), (0.009, -0.005), (0, -0.006)][::-1], 40)
    bulb = moved(ellipsoid((0.012, 0.012, 0.016), 20), (0, 0, -0.02))
    return joined(foot, arms, moved(joined(shade, bulb), (0.034, 0, 0.152), turn_deg=-35, axis="y"))
