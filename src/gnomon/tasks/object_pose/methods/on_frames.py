"""Method `render-compare` over the frames of a request: the estimator for masks, the tracker for what follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gnomon.errors import GnomonError, InputError, MethodError
from gnomon.geometry.camera import Camera
from gnomon.geometry.kernel_cache import is_cold
from gnomon.geometry.symmetry import Symmetries
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.frames import Frame, LoadedFrame, Target
from gnomon.tasks.object_pose.methods import render_compare
from gnomon.tasks.object_pose.methods.session import Answer, ModelFacts, PoseObject, Setup
from gnomon.tasks.object_pose.pose import PoseEstimate
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.object_pose.tracker import Tracker

USED = (InputError, MethodError)
"""What concerns one object in one frame; everything else ends the job."""


def estimate_poses(
    objects: Sequence[PoseObject], targets: Sequence[Target], frames: Sequence[Frame], setup: Setup
) -> Iterator[ModelFacts | Answer]:
    """The facts of each object, then poses frame by frame."""
    if is_cold(Path(render_compare.__file__).parent):
        setup.message("compiling the kernels; this happens once and takes about 40 s of CPU")
    models: dict[int, PoseModel] = {}
    for item in objects:
        try:
            model = prepare(
                item.mesh, symmetries=item.symmetries, cache=setup.cache / "object-pose", threads=setup.threads
            )
        except USED as error:
            yield ModelFacts(item.index, item.mesh.diameter, error=error)
            continue
        models[item.index] = model
        yield ModelFacts(item.index, model.diameter_m, in_words(model.symmetries), tuple(model.warnings))
    usable = [target for target in targets if target.mesh in models]
    at_work = Followed(models, usable, setup) if setup.track else Separate(models, usable, setup)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        # The next frame is read while this one is worked on.
        ahead = reader.submit(_load, frames[0]) if frames else None
        for position, frame in enumerate(frames):
            assert ahead is not None
            loaded = ahead.result()
            ahead = reader.submit(_load, frames[position + 1]) if position + 1 < len(frames) else None
            yield from at_work.answers(frame, loaded)


class Separate:
    """Every mask by itself."""

    def __init__(self, models: dict[int, PoseModel], targets: Sequence[Target], setup: Setup) -> None:
        self.models = models
        self.targets = targets
        self.setup = setup

    def answers(self, frame: Frame, loaded: LoadedFrame | InputError) -> Iterator[Answer]:
        for target in self.targets:
            if target.index in frame.masks:
                yield Answer(frame.index, target.index, self._answer(frame, target, loaded))

    def _answer(self, frame: Frame, target: Target, loaded: LoadedFrame | InputError) -> PoseEstimate | GnomonError:
        if isinstance(loaded, InputError):
            return loaded
        model = self.models[target.mesh]
        try:
            mask = frame.mask(target.index, loaded, model.diameter_m)
            return estimate(model, loaded.rgb, loaded.depth_m, mask, loaded.camera, threads=self.setup.threads)
        except USED as error:
            return error


class Followed:
    """Targets are followed from the frame with their mask on."""

    def __init__(self, models: dict[int, PoseModel], targets: Sequence[Target], setup: Setup) -> None:
        self.models = models
        self.targets = targets
        self.trackers: dict[int, Tracker] = {}
        self.cameras: dict[int, Camera] = {}
        self.at_once = max(1, min(len(targets), setup.threads))
        self.threads = max(1, setup.threads // self.at_once)

    def answers(self, frame: Frame, loaded: LoadedFrame | InputError) -> Iterator[Answer]:
        present = [target for target in self.targets if target.index in frame.masks or target.index in self.trackers]
        if self.at_once == 1 or len(present) < 2:
            outcomes = [self._answer(frame, target, loaded) for target in present]
        else:
            with ThreadPoolExecutor(self.at_once, thread_name_prefix="track") as pool:
                outcomes = list(pool.map(lambda target: self._answer(frame, target, loaded), present))
        for target, outcome in zip(present, outcomes, strict=True):
            yield Answer(frame.index, target.index, outcome)

    def _answer(self, frame: Frame, target: Target, loaded: LoadedFrame | InputError) -> PoseEstimate | GnomonError:
        if isinstance(loaded, InputError):
            return loaded
        try:
            if target.index in frame.masks:
                return self._start(frame, target, loaded)
            tracker = self.trackers[target.index]
            _check_same_camera(self.cameras[target.index], loaded, frame)
            return tracker.step(loaded.rgb, loaded.depth_m)
        except USED as error:
            return error

    def _start(self, frame: Frame, target: Target, loaded: LoadedFrame) -> PoseEstimate:
        model = self.models[target.mesh]
        mask = frame.mask(target.index, loaded, model.diameter_m)
        tracker = Tracker(model, loaded.camera, threads=self.threads)
        estimated = tracker.start(loaded.rgb, loaded.depth_m, mask)
        self.trackers[target.index], self.cameras[target.index] = tracker, loaded.camera
        return estimated


def in_words(symmetries: Symmetries) -> str:
    """For instance "2 discrete, 1 axis"; "none" without any."""
    parts = []
    if len(symmetries.discrete):
        parts.append(f"{len(symmetries.discrete)} discrete")
    if symmetries.continuous:
        parts.append(f"{len(symmetries.continuous)} {'axis' if len(symmetries.continuous) == 1 else 'axes'}")
    return ", ".join(parts) or "none"


def warm_up() -> None:
    """Compile the kernels by estimating and tracking a small box once."""
    from gnomon.tasks.object_pose.demo import warm_up_scene

    mesh, rgb, depth_m, mask, camera = warm_up_scene()
    tracker = Tracker(prepare(mesh, threads=1), camera, threads=1)
    tracker.start(rgb, depth_m, mask)
    tracker.step(rgb, depth_m)


def _load(frame: Frame) -> LoadedFrame | InputError:
    try:
        return frame.load()
    except InputError as error:
        return error


def _check_same_camera(camera: Camera, loaded: LoadedFrame, frame: Frame) -> None:
    if loaded.camera != camera:
        raise InputError(
            f"frame {frame.name} has another camera or size than the frame before it",
            code="camera_changes",
            field="camera",
            value=frame.name,
            expected="one camera for all frames of a sequence",
            fix="estimate the frames one by one: --no-track, with a mask for each",
        )
