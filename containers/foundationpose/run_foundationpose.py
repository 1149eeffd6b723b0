"""Runs FoundationPose on a folder of frames. This is inside the container; gnomon writes the folder and reads it.

    python run_foundationpose.py FOLDER

    FOLDER/job.json                 protocol, objects, targets, frames
    FOLDER/meshes/0/mug.ply         as the user gave it; job.json has metres per unit
    FOLDER/frames/000000/rgb.png    8-bit colour
                         depth.png  16 bits; job.json has metres per value; 0 where nothing was measured
                         K.txt      3 lines of 3 numbers
                         mask_0.png of target 0, in frames where it begins; 255 on the object
    FOLDER/answers/0/000000.txt     made here: 4 lines of 4 numbers, object to camera, metres

Each answer is also a line `@gnomon {"frame": 0, "target": 0, ...}` on standard output. Written against the Python
interface of https://github.com/NVlabs/FoundationPose at commit bf25183. Runs on Python 3.8 and newer.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

PROTOCOL = 1
CODE = Path("/opt/FoundationPose")
DEBUG_DIR = "/tmp/foundationpose"
RECORD_PREFIX = "@gnomon "


def main(arguments):
    """Answer every target in every frame; exit code 0 also when single answers are errors."""
    if len(arguments) != 1:
        sys.stderr.write("usage: run_foundationpose.py FOLDER\n")
        return 2
    folder = Path(arguments[0])
    job = json.loads((folder / "job.json").read_text("utf-8"))
    if job["protocol"] != PROTOCOL:
        sys.stderr.write(f"this image speaks protocol {PROTOCOL}, the job {job['protocol']}: build the image again\n")
        return 3
    session = Session(folder, job)
    for frame in job["frames"]:
        session.run_frame(frame)
    return 0


class Session:
    """One estimator for each target; the networks and the renderer are shared."""

    def __init__(self, folder, job):
        self.folder = folder
        self.job = job
        self.library = load_library()
        self.networks = self.library.networks()
        self.meshes = {}
        self.estimators = {}
        self.begun = set()

    def run_frame(self, frame):
        pictures = read_frame(self.folder / frame["folder"], frame["depth_unit_m"])
        for target in self.job["targets"]:
            index = target["index"]
            begins = index in frame["masks"]
            if not begins and not (self.job["track"] and index in self.begun):
                continue
            self.begun.add(index)
            began = time.monotonic()
            record = {"frame": frame["index"], "target": index, "error": None}
            try:
                if begins:
                    pose = self.register(target, pictures, self.folder / frame["folder"])
                else:
                    pose = self.track(target, pictures)
                self.write(index, frame["index"], pose)
            except NoPose as error:
                record["error"] = str(error)
            record["seconds"] = time.monotonic() - began
            say(record)

    def register(self, target, pictures, folder):
        """From a mask. With too little depth FoundationPose answers the unit rotation; here that is an error."""
        mask = read_picture(folder / f"mask_{target['index']}.png") > 0
        self.estimators.pop(target["index"], None)
        estimator = self.library.estimator(self.mesh(target["object"]), *self.networks)
        estimator.scores = None
        pose = estimator.register(
            K=pictures["K"],
            rgb=pictures["rgb"],
            depth=pictures["depth"],
            ob_mask=mask,
            iteration=self.job["register_iterations"],
        )
        if estimator.scores is None:
            raise NoPose("too little depth is left under the mask once its edges are taken off")
        self.estimators[target["index"]] = estimator
        return pose

    def track(self, target, pictures):
        if target["index"] not in self.estimators:
            raise NoPose("it was not found in the frame with its mask, so there is nothing to follow")
        return self.estimators[target["index"]].track_one(
            rgb=pictures["rgb"],
            depth=pictures["depth"],
            K=pictures["K"],
            iteration=self.job["track_iterations"],
        )

    def mesh(self, index):
        if index not in self.meshes:
            (record,) = [item for item in self.job["objects"] if item["index"] == index]
            self.meshes[index] = self.library.mesh(self.folder / record["mesh"], record["unit_m"])
        return self.meshes[index]

    def write(self, target, frame, pose):
        pose = np.asarray(pose, dtype=np.float64).reshape(4, 4)
        if not np.isfinite(pose).all():
            raise NoPose("FoundationPose answered numbers that are not finite")
        path = self.folder / "answers" / str(target) / f"{frame:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        np.savetxt(str(draft), pose)
        draft.replace(path)


class NoPose(Exception):
    """One target has no pose in one frame; the others go on."""


class Library:
    """The parts of FoundationPose and of what it stands on that are used here."""

    def __init__(self, foundationpose, rasterizer, trimesh):
        self.foundationpose = foundationpose
        self.rasterizer = rasterizer
        self.trimesh = trimesh

    def networks(self):
        """Scorer, refiner and renderer. They read their weights from CODE/weights."""
        return (
            self.foundationpose.ScorePredictor(),
            self.foundationpose.PoseRefinePredictor(),
            self.rasterizer.RasterizeCudaContext(),
        )

    def estimator(self, mesh, scorer, refiner, glctx):
        return self.foundationpose.FoundationPose(
            model_pts=mesh.vertices,
            model_normals=mesh.vertex_normals,
            mesh=mesh,
            scorer=scorer,
            refiner=refiner,
            debug_dir=DEBUG_DIR,
            debug=0,
            glctx=glctx,
        )

    def mesh(self, path, unit_m):
        """In metres, with colours in a form that FoundationPose's renderer takes."""
        mesh = self.trimesh.load(str(path), force="mesh")
        mesh.apply_scale(unit_m)
        material = getattr(mesh.visual, "material", None)
        if material is None:
            return mesh
        if hasattr(material, "to_simple"):
            material = mesh.visual.material = material.to_simple()
        if getattr(material, "image", None) is None or getattr(mesh.visual, "uv", None) is None:
            # The renderer wants a picture for each textured mesh; one colour does for a material without.
            colour = getattr(material, "main_color", (128, 128, 128, 255))
            colours = np.tile(np.asarray(colour, np.uint8), (len(mesh.vertices), 1))
            mesh.visual = self.trimesh.visual.ColorVisuals(mesh, vertex_colors=colours)
        return mesh


def load_library():
    """Import FoundationPose from where the image has it."""
    sys.path.insert(0, str(CODE))
    import estimater
    import nvdiffrast.torch
    import trimesh

    return Library(estimater, nvdiffrast.torch, trimesh)


def read_frame(folder, depth_unit_m):
    depth = read_picture(folder / "depth.png").astype(np.float32) * np.float32(depth_unit_m)
    return {
        "rgb": read_picture(folder / "rgb.png")[..., :3],
        "depth": depth,
        "K": np.loadtxt(str(folder / "K.txt")).reshape(3, 3),
    }


def read_picture(path):
    from PIL import Image

    with Image.open(str(path)) as picture:
        return np.array(picture)


def say(record):
    sys.stdout.write(RECORD_PREFIX + json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
