"""The packages of method `blender`; apart from it, so that listing the methods imports nothing heavy."""

from __future__ import annotations

from gnomon.environments import Environment

ENVIRONMENT = Environment(
    name="blender",
    # Blender's modules are built for NumPy 1.
    requirements=("bpy==5.0.1", "numpy<2"),
    python="3.11",
    disk_mb=1500,
)
