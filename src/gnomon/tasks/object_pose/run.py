"""The steps of `object-pose`: read, estimate or track frame by frame, write, draw, report."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnomon.context import Context, Outcome
from gnomon.errors import GnomonError, InputError, MethodError, from_dict
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Symmetries
from gnomon.geometry.units import METRES_PER_UNIT
from gnomon.tasks.object_pose import files
from gnomon.tasks.object_pose.frames import Frame, LoadedFrame, Target, object_ids, plan
from gnomon.tasks.object_pose.methods import estimator
from gnomon.tasks.object_pose.methods.session import Answer, ModelFacts, PoseObject, Setup
from gnomon.tasks.object_pose.pose import PoseEstimate
from gnomon.tasks.object_pose.read import read_mesh_m
from gnomon.tasks.object_pose.spec import (
    CameraRecord,
    FrameResult,
    ObjectInFrame,
    ObjectPose,
    ObjectPoseResult,
    ObjectSummary,
    RunnerUpPose,
)

CHUNK_FRAMES = 16
"""Frames that are remembered as done together, where they do not depend on each other."""

DRAWING = {"overlay", "video", "fps"}
"""Options that do not change a pose."""

WORKDIR = ".method"
STEPS = 4


def run(spec: ObjectPose, context: Context) -> Outcome:
    """Find every object in every frame. One bad mesh, mask or frame fails alone, unless nothing is left."""
    from gnomon.tasks.object_pose import make_overlays, report

    context.begin("read", 1, STEPS)
    job = PoseJob(spec, context)
    context.begin("estimate", 2, STEPS)
    job.estimate_all()
    result = job.result()
    failed = [item for item in result.objects if item.error is not None]
    errors = [item.error for item in failed if item.error is not None]
    for item in result.objects:
        context.item(item.name, from_dict(item.error) if item.error is not None else None)
    if len(failed) == len(result.objects) and all(error["code"] != NOT_FOUND for error in errors):
        raise _error_for_all(errors)
    files.write(context.out, result)
    context.begin("draw", 3, STEPS)
    drawn = make_overlays.draw_all(spec, context, job.frames, job.meshes, result)
    context.begin("report", 4, STEPS)
    report.write(context.out, spec, result, drawn)
    record = {
        "objects": [item.model_dump(mode="json") for item in result.objects],
        "frames": len(result.frames),
        "poses": files.POSES,
        "csv": "poses.csv",
        "overlays": len(drawn.overlays),
        "video": drawn.video,
    }
    partial = bool(failed) or any(item.failed for item in result.objects)
    return Outcome(record, partial=partial, warnings=[*_warnings(result), *drawn.warnings])


NOT_FOUND = "pose_not_found"


class PoseJob:
    """The request, read, and what became of each target in each frame."""

    def __init__(self, spec: ObjectPose, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.targets, self.frames = plan(spec, context.input)
        self.meshes: dict[int, Mesh] = {}
        self.mesh_errors: dict[int, GnomonError] = {}
        self.facts: dict[int, ModelFacts] = {}
        self.found: dict[tuple[int, int], ObjectInFrame] = {}
        self.camera = self._camera()
        self.objects = list(self._objects())

    def _camera(self) -> CameraRecord:
        """The camera of the first frame that can be read; if none can, what is wrong with the first."""
        first: InputError | None = None
        for position, frame in enumerate(self.frames):
            try:
                loaded = frame.load()
            except InputError as error:
                first = first or error
                continue
            # The method wants this frame before any other: it is not read twice.
            self.frames[position] = replace(frame, load=_AtHand(loaded, frame.load))
            camera = loaded.camera
            K = tuple(tuple(float(value) for value in row) for row in camera.K)
            return CameraRecord(K=K, width=camera.width, height=camera.height)
        assert first is not None
        raise first

    def _objects(self) -> Iterator[PoseObject]:
        symmetries = _symmetries(self.spec, self.context)
        unit_m = METRES_PER_UNIT[self.spec.mesh_unit]
        # Only meshes that are looked for somewhere.
        for mesh in sorted({target.mesh for target in self.targets}):
            self.context.check_cancelled()
            path = self.context.input(self.spec.mesh[mesh])
            try:
                self.meshes[mesh] = read_mesh_m(path, self.spec)
                yield PoseObject(mesh, self.meshes[mesh], path, unit_m, symmetries[mesh])
            except InputError as error:
                self.mesh_errors[mesh] = error

    def estimate_all(self) -> None:
        """Fill `found`, frame by frame; what an earlier attempt has finished is taken from there."""
        chunks = self._chunks()
        todo = []
        for name, frames in chunks:
            done = self.context.finished(name, self._key())
            if done is None:
                todo.append((name, frames))
            else:
                self._take(done)
        left = [frame for _, frames in todo for frame in frames]
        total = len(self.frames)
        self.context.progress(total - len(left), total, "frame")
        if not left or not self.objects:
            return
        ends = {frames[-1].index: (name, frames) for name, frames in todo}
        last = left[0].index
        for answer in self._answers(left):
            self.context.check_cancelled()
            if isinstance(answer, ModelFacts):
                self._take_facts(answer)
                continue
            if answer.frame != last:
                self._frame_done(last, ends, total)
                last = answer.frame
            self.found[answer.frame, answer.target] = self._entry(answer)
        for name, frames in todo:
            self._finish(name, frames)
        self.context.progress(total, total, "frame")

    def _answers(self, frames: list[Frame]) -> Iterator[ModelFacts | Answer]:
        setup = Setup(
            track=self.spec.track,
            threads=self.context.cpus,
            seed=self.context.seed,
            workdir=self.context.out / WORKDIR,
            cache=self.context.cache,
            message=self.context.message,
        )
        usable = [target for target in self.targets if target.mesh in self.meshes]
        return estimator(self.spec.method)(self.objects, usable, frames, setup)

    def _chunks(self) -> list[tuple[str, list[Frame]]]:
        """Frames that are finished together: all of a sequence, a few of independent pictures."""
        if self.spec.track:
            return [("poses", self.frames)]
        return [
            (f"poses-{start:06d}", self.frames[start : start + CHUNK_FRAMES])
            for start in range(0, len(self.frames), CHUNK_FRAMES)
        ]

    def _frame_done(self, index: int, ends: dict[int, tuple[str, list[Frame]]], total: int) -> None:
        self.context.progress(index + 1, total, "frame")
        if index in ends:
            self._finish(*ends[index])

    def _finish(self, name: str, frames: list[Frame]) -> None:
        inside = {frame.index for frame in frames}
        entries = [
            [frame, target, entry.model_dump(mode="json")]
            for (frame, target), entry in self.found.items()
            if frame in inside
        ]
        facts = [
            [item.object, item.diameter_m, item.symmetries, list(item.warnings), _record(item.error)]
            for item in self.facts.values()
        ]
        self.context.finish(name, self._key(), {"entries": entries, "facts": facts})

    def _take(self, done: dict[str, Any]) -> None:
        for frame, target, entry in done["entries"]:
            self.found[frame, target] = ObjectInFrame.model_validate(entry)
        for mesh, diameter_m, symmetries, warnings, error in done["facts"]:
            known = from_dict(error) if error is not None else None
            self._take_facts(ModelFacts(mesh, diameter_m, symmetries, tuple(warnings), known))

    def _take_facts(self, facts: ModelFacts) -> None:
        self.facts[facts.object] = facts
        if facts.error is not None:
            self.mesh_errors[facts.object] = facts.error

    def _key(self) -> dict[str, Any]:
        """All that the poses depend on; the files themselves are sealed with the job."""
        return {"poses": self.spec.model_dump(mode="json", exclude=DRAWING), "seed": self.context.seed}

    def _entry(self, answer: Answer) -> ObjectInFrame:
        target = self.targets[answer.target]
        who = {"object": target.name, "obj_id": target.obj_id, "instance": target.instance}
        if isinstance(answer.outcome, PoseEstimate):
            return ObjectInFrame(**who, **_estimated(answer.outcome))
        return ObjectInFrame(**who, state="failed", error=_record(answer.outcome))

    def result(self) -> ObjectPoseResult:
        """Everything that was found, in the order of the request."""
        frames = tuple(
            FrameResult(
                name=frame.name,
                frame_index=frame.index,
                scene_id=self.spec.scene_id,
                im_id=frame.im_id,
                objects=tuple(
                    self.found[frame.index, target.index]
                    for target in self.targets
                    if (frame.index, target.index) in self.found
                ),
            )
            for frame in self.frames
        )
        return ObjectPoseResult(
            method=self.spec.method,
            camera=self.camera,
            objects=tuple(self._summary(target) for target in self.targets),
            frames=frames,
        )

    def _summary(self, target: Target) -> ObjectSummary:
        entries = [
            (self.frames[frame].name, entry)
            for (frame, index), entry in sorted(self.found.items(), key=lambda item: item[0])
            if index == target.index
        ]
        good = [entry for _, entry in entries if entry.found]
        facts = self.facts.get(target.mesh)
        mesh = self.meshes.get(target.mesh)
        return ObjectSummary(
            name=target.name,
            mesh=Path(self.spec.mesh[target.mesh]).name,
            mesh_index=target.mesh,
            obj_id=target.obj_id,
            instance=target.instance,
            diameter_m=facts.diameter_m if facts else mesh.diameter if mesh else 0.0,
            symmetries=facts.symmetries if facts else "",
            frames=len(entries),
            found=len(good),
            lost=sum(entry.state == "lost" for _, entry in entries),
            failed=sum(entry.state == "failed" for _, entry in entries),
            ambiguous=sum(entry.ambiguous for entry in good),
            median_score=round(statistics.median([entry.score for entry in good] or [0.0]), 4),
            median_seconds=round(statistics.median([entry.seconds for entry in good] or [0.0]), 4),
            lost_frames=tuple(name for name, entry in entries if entry.state == "lost"),
            # A method may repeat what the reader said.
            warnings=tuple(dict.fromkeys([*(mesh.warnings if mesh else ()), *(facts.warnings if facts else ())])),
            error=self._object_error(target, [entry for _, entry in entries]),
        )

    def _object_error(self, target: Target, entries: list[ObjectInFrame]) -> dict[str, Any] | None:
        """Why an object was found in no frame at all; None if it was found in any."""
        if target.mesh in self.mesh_errors:
            return _record(self.mesh_errors[target.mesh])
        if any(entry.found for entry in entries):
            return None
        first = next((entry.error for entry in entries if entry.error is not None), None)
        if first is not None:
            return first
        return _record(
            MethodError(
                f"{target.name} was found in none of {len(entries)} frames",
                code="pose_not_found",
                field="mask",
                value=target.name,
                expected="a pose that explains mask and depth",
                fix="look at the overlay; check mesh, mesh unit, mask and intrinsics",
            )
        )


class _AtHand:
    """A frame that has been read already, for whoever asks first; after that it is read again."""

    def __init__(self, loaded: LoadedFrame, load: Callable[[], LoadedFrame]) -> None:
        self._loaded: LoadedFrame | None = loaded
        self._load = load

    def __call__(self) -> LoadedFrame:
        loaded, self._loaded = self._loaded, None
        return loaded if loaded is not None else self._load()


def _symmetries(spec: ObjectPose, context: Context) -> list[Any]:
    """For each mesh its symmetries from models_info.json, or "auto", or none."""
    if spec.models_info is None:
        return [Symmetries.none() if spec.symmetries == "none" else "auto" for _ in spec.mesh]
    path = context.input(spec.models_info)
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name} cannot be read: {error}", code="symmetries_invalid", field="models_info", value=path.name
        ) from error
    found = []
    for obj_id in object_ids(spec):
        entry = entries.get(str(obj_id)) if isinstance(entries, dict) else None
        if not isinstance(entry, dict):
            raise InputError(
                f"{path.name} has no object {obj_id}",
                code="symmetries_invalid",
                field="models_info",
                value=obj_id,
                expected="an entry for every mesh, by its number",
                fix="give the numbers of the meshes with --obj-id",
            )
        found.append(Symmetries.from_bop(entry))
    return found


def _estimated(estimate: PoseEstimate) -> dict[str, Any]:
    other = estimate.runner_up
    return {
        "T_cam_obj": _rows(estimate.T_cam_obj),
        "score": float(estimate.score),
        "state": estimate.state,
        "ambiguous": bool(estimate.ambiguous),
        "runner_up": RunnerUpPose(T_cam_obj=_rows(other.T_cam_obj), margin=float(other.margin)) if other else None,
        "seconds": round(float(estimate.seconds), 5),
    }


def _rows(T: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in T)


def _record(error: GnomonError | None) -> dict[str, Any] | None:
    return None if error is None else error.to_dict() | {"exit_code": error.exit_code}


def _warnings(result: ObjectPoseResult) -> list[str]:
    lines = []
    for item in result.objects:
        lines += [f"{item.name}: {text}" for text in item.warnings]
        if item.lost:
            shown = ", ".join(item.lost_frames[:10]) + (", ..." if item.lost > 10 else "")
            lines.append(f"{item.name} is lost in {item.lost} of {item.frames} frames: {shown}")
        if item.ambiguous:
            lines.append(
                f"{item.name}: in {item.ambiguous} of {item.frames} frames another pose fits about as well (runner_up)"
            )
    return lines


def _error_for_all(errors: list[dict[str, Any]]) -> GnomonError:
    first = from_dict(errors[0])
    if len(errors) == 1:
        return first
    return type(first)(
        f"none of the {len(errors)} objects could be found; the first: {first.message}",
        code=first.code,
        field=first.field,
        value=first.value,
        expected=first.expected,
        fix=first.fix,
    )
