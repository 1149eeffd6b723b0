"""The tasks, by name. Only names and one-line summaries are loaded here; the rest when a task is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from gnomon.errors import NotFound

if TYPE_CHECKING:
    from gnomon.methods import Method
    from gnomon.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Task:
    """A task is a package with spec.py, run.py and methods/."""

    name: str
    summary: str
    module: str
    spec_name: str

    def spec(self) -> type[TaskSpec]:
        return getattr(self._load("spec"), self.spec_name)

    def methods(self) -> tuple[Method, ...]:
        """What can do this task, the default first."""
        return self._load("methods").METHODS

    def method(self, name: str) -> Method:
        for method in self.methods():
            if method.name == name:
                return method
        raise NotFound(
            f"{self.name} has no method {name!r}",
            code="method_not_found",
            field="method",
            value=name,
            expected="one of: " + ", ".join(method.name for method in self.methods()),
        )

    def runner(self) -> ModuleType:
        """The module with `run(spec, context) -> Outcome`."""
        return self._load("run")

    def _load(self, part: str) -> ModuleType:
        return importlib.import_module(f"{self.module}.{part}")


TASKS: dict[str, Task] = {
    "templates": Task(
        "templates",
        "Render CAD meshes from 42 views: RGB, masks and xyz maps for SAM-6D.",
        "gnomon.tasks.templates",
        "Templates",
    ),
    "object-pose": Task(
        "object-pose",
        "Find objects in RGB-D pictures: their 6D poses from a mask, a mesh and the camera.",
        "gnomon.tasks.object_pose",
        "ObjectPose",
    ),
}


def get_task(name: str) -> Task:
    """The task called `name`, or NotFound with the list of those there are."""
    try:
        return TASKS[name]
    except KeyError:
        raise NotFound(
            f"there is no task {name!r}",
            code="task_not_found",
            field="task",
            value=name,
            expected="one of: " + ", ".join(TASKS),
        ) from None
