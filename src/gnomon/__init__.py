"""gnomon: 3D-vision jobs on this machine, on a SLURM cluster or on serverless GPUs.

    import gnomon
    result = gnomon.run(gnomon.Templates(mesh="mug.ply"), out="out")

Everything public is named in `__all__` and loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gnomon.api import Home, Job, run, submit
    from gnomon.errors import GnomonError
    from gnomon.request import Resources
    from gnomon.tasks.object_pose.spec import ObjectPose, ObjectPoseResult
    from gnomon.tasks.templates.spec import Templates, TemplatesResult

_HOMES = {
    "Home": "gnomon.api",
    "Job": "gnomon.api",
    "run": "gnomon.api",
    "submit": "gnomon.api",
    "GnomonError": "gnomon.errors",
    "ObjectPose": "gnomon.tasks.object_pose.spec",
    "ObjectPoseResult": "gnomon.tasks.object_pose.spec",
    "Resources": "gnomon.request",
    "Templates": "gnomon.tasks.templates.spec",
    "TemplatesResult": "gnomon.tasks.templates.spec",
}

__all__ = [
    "GnomonError",
    "Home",
    "Job",
    "ObjectPose",
    "ObjectPoseResult",
    "Resources",
    "Templates",
    "TemplatesResult",
    "__version__",
    "run",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gnomon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
