"""The methods of `object-pose`, the default first."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from gnomon.methods import Method
from gnomon.tasks.object_pose.methods import foundationpose_setup

if TYPE_CHECKING:
    from gnomon.tasks.object_pose.methods.session import EstimatePoses

_MODULES = {"render-compare": "on_frames", "foundationpose": "foundationpose"}


def estimator(name: str) -> EstimatePoses:
    """The one function of a method."""
    return importlib.import_module(f"{__name__}.{_MODULES[name]}").estimate_poses


def _warm_render_compare() -> None:
    from gnomon.tasks.object_pose.methods import on_frames

    on_frames.warm_up()


METHODS = (
    Method(
        name="render-compare",
        task="object-pose",
        summary="thousands of hypotheses, refined and judged by drawing the mesh; tracking with re-initialisation",
        licence="MIT",
        paper="M. Stoiber et al.: Iterative Corresponding Geometry, CVPR 2022; S. Hinterstoisser et al.: Going "
        "Further with Point Pair Features, ECCV 2016",
        warm_up=_warm_render_compare,
    ),
    Method(
        name="foundationpose",
        task="object-pose",
        summary="NVIDIA's network in its own container, with weights that you bring; research and evaluation only",
        licence="NVIDIA Source Code License (non-commercial: research or evaluation only)",
        paper="B. Wen et al.: FoundationPose: Unified 6D Pose Estimation and Tracking of Novel Objects, CVPR 2024",
        devices=("cuda",),
        check=foundationpose_setup.missing,
        steps=foundationpose_setup.STEPS,
    ),
)
