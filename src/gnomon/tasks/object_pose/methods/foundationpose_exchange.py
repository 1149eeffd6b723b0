"""The folder that gnomon and FoundationPose's container exchange; containers/foundationpose has the other side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from gnomon.errors import MethodError
from gnomon.formats.mesh_companions import companions
from gnomon.formats.png import write_png
from gnomon.geometry import se3
from gnomon.tasks.object_pose.frames import Frame, LoadedFrame, Target
from gnomon.tasks.object_pose.methods.session import PoseObject

PROTOCOL = 1
REGISTER_ITERATIONS = 5
TRACK_ITERATIONS = 2
FINE_UNIT_M = 1e-4
"""A tenth of a millimetre, while the farthest depth fits 16 bits so."""
ROUNDING = 1e-3


class Exchange:
    """Writes one job's folder, frame by frame, and reads the answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frames: list[dict[str, object]] = []

    def add_frame(self, frame: Frame, loaded: LoadedFrame, masks: dict[int, Bool[np.ndarray, "H W"]]) -> None:
        """The pictures of a frame, and the masks of the targets that begin there."""
        name = f"frames/{frame.index:06d}"
        folder = self.folder / name
        folder.mkdir(parents=True)
        write_png(folder / "rgb.png", loaded.rgb)
        unit_m = _write_depth(folder / "depth.png", loaded.depth_m)
        np.savetxt(folder / "K.txt", loaded.camera.K)
        for target, mask in masks.items():
            write_png(folder / f"mask_{target}.png", mask.astype(np.uint8) * 255)
        self._frames.append({"index": frame.index, "folder": name, "depth_unit_m": unit_m, "masks": sorted(masks)})

    def seal(self, objects: Sequence[PoseObject], targets: Sequence[Target], *, track: bool) -> None:
        """Copy the meshes and write job.json, after which the folder is complete."""
        job = {
            "protocol": PROTOCOL,
            "track": track,
            "register_iterations": REGISTER_ITERATIONS,
            "track_iterations": TRACK_ITERATIONS,
            "objects": [
                {"index": item.index, "mesh": self._copy_mesh(item), "unit_m": item.unit_m} for item in objects
            ],
            "targets": [{"index": target.index, "object": target.mesh} for target in targets],
            "frames": self._frames,
        }
        (self.folder / "job.json").write_text(json.dumps(job), "utf-8")

    @property
    def is_empty(self) -> bool:
        return not self._frames

    def answer(self, frame: int, target: int) -> Float64[np.ndarray, "4 4"]:
        """A pose that the container has announced. Raises MethodError `poses_missing`, `poses_not_rigid`."""
        path = self.folder / "answers" / str(target) / f"{frame:06d}.txt"
        try:
            numbers = np.array(path.read_text("utf-8")[:10_000].split(), np.float64)
        except (OSError, ValueError) as error:
            raise MethodError(f"FoundationPose's answer cannot be read: {error}", code="poses_missing") from error
        T = numbers.reshape(4, 4) if numbers.size == 16 else np.zeros((4, 4))
        if not (np.isfinite(T).all() and se3.is_rigid(T, atol=ROUNDING)):
            raise MethodError(f"FoundationPose's answer in {path.name} is no pose", code="poses_not_rigid")
        return T

    def _copy_mesh(self, item: PoseObject) -> str:
        """The mesh as the user gave it, with its materials and textures."""
        folder = self.folder / "meshes" / str(item.index)
        for name in (item.file.name, *companions(item.file)):
            source = item.file.parent / name
            if source.is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
        return f"meshes/{item.index}/{item.file.name}"


def _write_depth(path: Path, depth_m: Float32[np.ndarray, "H W"]) -> float:
    """16-bit PNG; returns metres per value."""
    from PIL import Image

    farthest_m = float(depth_m.max(initial=0))
    unit_m = FINE_UNIT_M if farthest_m < 65535 * FINE_UNIT_M else farthest_m / 65535
    Image.fromarray(np.round(depth_m / unit_m).clip(0, 65535).astype(np.uint16)).save(path)
    return unit_m
