"""What a method of `object-pose` is: one function. docs/object-pose.md describes it for authors of further ones.

    def estimate_poses(objects, targets, frames, setup) -> Iterator[ModelFacts | Answer]: ...

It yields the facts of each object once, and then for every frame, in order, one answer for each target that has a
mask there or is being tracked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gnomon.errors import GnomonError
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries
from gnomon.tasks.object_pose.frames import Frame, Target
from gnomon.tasks.object_pose.pose import PoseEstimate


@dataclass(frozen=True)
class PoseObject:
    """One mesh of the request."""

    index: int
    """What `Target.mesh` refers to."""
    mesh: Mesh
    """Vertices in metres."""
    file: Path
    unit_m: float
    """Metres per unit of the file, for programs that read the file themselves."""
    symmetries: Symmetries | Literal["auto"]


@dataclass(frozen=True)
class Setup:
    """How to work."""

    track: bool
    """Follow targets from the frame with their mask on; otherwise every mask is estimated by itself."""
    threads: int
    seed: int
    workdir: Path
    """A folder for files of the method's own. The method makes it if it needs one, and removes it."""
    cache: Path
    """A folder that outlives the job, for what is worth keeping."""
    message: Callable[[str], None] = lambda text: None
    """Says something to the user."""


@dataclass(frozen=True)
class ModelFacts:
    """What the method found out about an object, or why it cannot use it."""

    object: int
    diameter_m: float
    symmetries: str = ""
    """In words."""
    warnings: tuple[str, ...] = ()
    error: GnomonError | None = None


@dataclass(frozen=True)
class Answer:
    """One target in one frame: an estimate, or an InputError or MethodError."""

    frame: int
    """`Frame.index`."""
    target: int
    """`Target.index`."""
    outcome: PoseEstimate | GnomonError


EstimatePoses = Callable[
    [Sequence[PoseObject], Sequence[Target], Sequence[Frame], Setup], Iterator[ModelFacts | Answer]
]
