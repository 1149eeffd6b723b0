"""More shapes to tune with: long, thin and nearly symmetric ones, where one small part tells poses apart."""

from __future__ import annotations

import numpy as np

from gnomon.geometry.mesh import Mesh
from gnomon.tasks.synthetic.parts import arc, box, cylinder, ellipsoid, joined, moved, prism, revolve, tube


def spatula() -> Mesh:
    """A thin blade with one cut corner and a bent handle."""
    outline = np.array([(-0.04, -0.03), (0.04, -0.03), (0.045, 0.02), (0.035, 0.03), (-0.04, 0.03)])
    handle = tube(np.array([(-0.035, 0, 0), (-0.07, 0, 0.008), (-0.19, 0, 0.012)]), 0.006)
    return joined(prism(outline, 0.002), handle)


def torch() -> Mesh:
    """A turned body; only a switch tells how it is turned."""
    profile = [(0, -0.08), (0.015, -0.08), (0.016, 0.03), (0.022, 0.05), (0.022, 0.07), (0, 0.07)]
    return joined(revolve(profile), box((0.008, 0.006, 0.02), (0.018, 0, -0.01)))


def kettle() -> Mesh:
    """A body with spout and handle."""
    body = revolve([(0, 0), (0.06, 0), (0.062, 0.01), (0.05, 0.09), (0.03, 0.11), (0, 0.115)])
    spout = tube(np.array([(0.05, 0, 0.04), (0.075, 0, 0.06), (0.095, 0, 0.1)]), [0.014, 0.011, 0.008])
    handle = tube(np.array([(-0.045, 0, 0.1), (-0.09, 0, 0.095), (-0.095, 0, 0.06), (-0.055, 0, 0.03)]), 0.006)
    return joined(body, spout, handle)


def club() -> Mesh:
    """A rod with a ball at one end and a block of about the same size at the other."""
    rod = tube(np.array([(-0.1, 0, 0), (0.1, 0, 0)]), 0.009)
    ball = moved(ellipsoid((0.02, 0.02, 0.02)), (-0.1, 0, 0))
    return joined(rod, ball, moved(box((0.03, 0.034, 0.034)), (0.1, 0, 0)))


def pan() -> Mesh:
    """A shallow pan with a long handle."""
    body = revolve([(0, 0), (0.075, 0), (0.085, 0.03), (0.083, 0.03), (0.073, 0.003), (0, 0.003)])
    return joined(body, tube(np.array([(0.08, 0, 0.025), (0.12, 0, 0.03), (0.2, 0, 0.04)]), 0.008))


def slot_plate() -> Mesh:
    """A sheet of 1.5 mm with one slot off its middle."""
    outline = np.array([(-0.08, -0.05), (0.08, -0.05), (0.08, 0.05), (-0.08, 0.05)])
    slot = np.array([(0.02, -0.03), (0.06, -0.03), (0.06, -0.01), (0.02, -0.01)])
    return prism(outline, 0.0015, [slot])


def clamp() -> Mesh:
    """A bar with two arms of different length, one with a screw."""
    bar = box((0.12, 0.015, 0.02))
    arms = joined(box((0.015, 0.015, 0.07), (-0.0525, 0, 0.03)), box((0.015, 0.015, 0.055), (0.0525, 0, 0.0225)))
    return joined(bar, arms, moved(cylinder(0.005, 0.06), (0.0525, 0, 0.05)))


def rail() -> Mesh:
    """A long angle; only a rib near one end tells the ends apart."""
    sides = joined(box((0.2, 0.03, 0.006)), box((0.2, 0.006, 0.03), (0, -0.012, 0.012)))
    return joined(sides, box((0.012, 0.03, 0.012), (0.07, 0, 0.008)))


def cap() -> Mesh:
    """A lid with a tab."""
    lid = revolve([(0, 0), (0.05, 0), (0.05, 0.03), (0.046, 0.03), (0.046, 0.004), (0, 0.004)])
    return joined(lid, box((0.014, 0.012, 0.006), (0.054, 0, 0.015)))


def sprocket() -> Mesh:
    """A ring with ten square teeth, one of which is missing."""
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    radius = 0.055 + 0.006 * np.sign(np.sin(10 * angle))
    radius = np.where(np.abs(angle - 0.94) < 0.25, 0.049, radius)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return prism(radius[:, None] * around, 0.015, [0.012 * around[::8]])


def lobed_disc() -> Mesh:
    """A disc with nine rounded lobes and five pin holes about its middle, where six would have their place."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    pin = np.radians(60 * np.arange(5))
    pins = [arc(0.006, count=16)[:, :2] + 0.03 * np.array([np.cos(at), np.sin(at)]) for at in pin]
    return prism((0.05 + 0.0035 * np.cos(9 * angle))[:, None] * around, 0.01, [0.01 * around[::9], *pins])


def cog() -> Mesh:
    """A thick wheel with fourteen pointed teeth, one of which is broken off; it is not the same from both sides."""
    tooth = np.arange(28)
    radius = np.where(tooth % 2 == 0, 0.047, 0.038)
    radius[8] = 0.039
    around = np.stack([np.cos(np.pi / 14 * tooth), np.sin(np.pi / 14 * tooth)], axis=-1)
    return joined(prism(radius[:, None] * around, 0.018), moved(cylinder(0.02, 0.012), (0, 0, 0.014)))


def trestle() -> Mesh:
    """Four legs and a top, with a rail along one side: open, and nearly the same by quarters."""
    legs = [box((0.008, 0.008, 0.09), (0.045 * x, 0.045 * y, -0.045)) for x in (-1, 1) for y in (-1, 1)]
    return joined(*legs, box((0.1, 0.1, 0.006)), box((0.09, 0.006, 0.012), (0, 0.045, -0.06)))
