"""Method `foundationpose`: NVIDIA's networks in their own container, with the user's own weights.

Their licence allows research and evaluation only, so neither code nor weights are part of gnomon, and this method is
never chosen by itself. Frames go to the container in a folder and poses come back in it; nothing else is shared.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from gnomon import environments
from gnomon.environments.child import HIDDEN_PREFIXES, TAIL_LINES, ending, guarded, output_lines
from gnomon.errors import GnomonError, InputError, MethodError, MissingError
from gnomon.geometry.view import ViewMesh, prepare_view
from gnomon.tasks.object_pose.frames import Frame, Target
from gnomon.tasks.object_pose.methods import foundationpose_setup as places
from gnomon.tasks.object_pose.methods.agreement import LOST_BELOW, depth_agreement
from gnomon.tasks.object_pose.methods.foundationpose_exchange import Exchange
from gnomon.tasks.object_pose.methods.session import Answer, ModelFacts, PoseObject, Setup
from gnomon.tasks.object_pose.pose import PoseEstimate

EXEC = Path(__file__).with_name("foundationpose_exec.py")
INSIDE = "/exchange"
HOME = "/home/gnomon"
PROGRAM = ("python", "/opt/gnomon/run_foundationpose.py", INSIDE)
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def estimate_poses(
    objects: Sequence[PoseObject], targets: Sequence[Target], frames: Sequence[Frame], setup: Setup
) -> Iterator[ModelFacts | Answer]:
    """The facts of each object, then poses frame by frame.

    Raises:
        MissingError: `method_not_installed`.
        MethodError: `method_failed`, the container ended with an error; `poses_missing`, it ended too early.
    """
    command_of = _checked(setup.cache)
    for item in objects:
        yield ModelFacts(item.index, item.mesh.diameter, "not used by this method")
    setup.workdir.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="foundationpose-", dir=setup.workdir) as name:
            folder = Path(name)
            for part in ("exchange", "tmp"):
                (folder / part).mkdir()
            run = ContainerRun(objects, targets, frames, setup, folder / "exchange")
            yield from run.answers(command_of(folder))
    finally:
        with contextlib.suppress(OSError):
            setup.workdir.rmdir()


def command(apptainer: str, image: Path, weights: Path, exchange: Path, scratch: Path, home: Path) -> list[str]:
    """The exact call. Nothing of the host is visible inside but the GPU and the three folders that are bound.

    `scratch` becomes the container's /tmp, which is small otherwise; `home` keeps kernels that are compiled once.
    """
    for path in (image, weights, exchange, scratch, home):
        # Apptainer separates the parts of a bind by these, and has no way to escape them here.
        if any(character in str(path) for character in ",:"):
            raise InputError(
                f"{path} cannot be bound into a container",
                code="path_not_bindable",
                field="path",
                value=path,
                expected="a path without commas and colons",
                fix="set GNOMON_HOME or GNOMON_CACHE to another folder",
            )
    return [
        apptainer, "exec", "--nv", "--containall",
        "--workdir", str(scratch),
        "--home", f"{home}:{HOME}",
        "--bind", f"{exchange}:{INSIDE}",
        "--bind", f"{weights}:/opt/FoundationPose/weights:ro",
        "--pwd", INSIDE,
        str(image), *PROGRAM,
    ]  # fmt: skip


class ContainerRun:
    """One run of the container over all frames."""

    def __init__(
        self,
        objects: Sequence[PoseObject],
        targets: Sequence[Target],
        frames: Sequence[Frame],
        setup: Setup,
        folder: Path,
    ) -> None:
        self.objects = {item.index: item for item in objects}
        self.targets = {target.index: target for target in targets}
        self.frames = {frame.index: frame for frame in frames}
        self.setup = setup
        self.exchange = Exchange(folder)
        self.views: dict[int, ViewMesh] = {}
        self.due: list[tuple[int, int]] = []
        """Frame and target of every answer, in order."""
        self.refused: dict[tuple[int, int], GnomonError] = {}
        """Those that never reach the container."""

    def answers(self, program: list[str]) -> Iterator[Answer]:
        self._write_exchange()
        waiting = collections.deque(self.due)
        if not self.exchange.is_empty:
            with contextlib.closing(_records(program, self.exchange.folder)) as records:
                for record in records:
                    place = (record.get("frame"), record.get("target"))
                    yield from self._refused_before(waiting, place)
                    if not waiting or waiting[0] != place:
                        raise MethodError(f"FoundationPose answered {place} out of turn", code="poses_missing")
                    frame, target = waiting.popleft()
                    yield Answer(frame, target, self._outcome(frame, target, record))
        yield from self._refused_before(waiting, None)
        if waiting:
            raise MethodError(f"FoundationPose ended {len(waiting)} poses early", code="poses_missing")

    def _write_exchange(self) -> None:
        """All frames into the folder. What cannot be used is refused here, as other methods would."""
        following: set[int] = set()
        for frame in self.frames.values():
            begins = [index for index in frame.masks if index in self.targets]
            concerned = sorted({*begins, *following})
            try:
                loaded = frame.load()
            except InputError as error:
                for index in concerned:
                    self._refuse(frame.index, index, error)
                continue
            masks = {}
            for index in concerned:
                if index not in begins:
                    self.due.append((frame.index, index))
                    continue
                try:
                    diameter_m = self.objects[self.targets[index].mesh].mesh.diameter
                    masks[index] = frame.mask(index, loaded, diameter_m)
                    self.due.append((frame.index, index))
                    if self.setup.track:
                        following.add(index)
                except InputError as error:
                    self._refuse(frame.index, index, error)
            if masks or following:
                self.exchange.add_frame(frame, loaded, masks)
        used = sorted({self.targets[index].mesh for _, index in self.due})
        targets = [target for _, target in sorted(self.targets.items())]
        self.exchange.seal([self.objects[mesh] for mesh in used], targets, track=self.setup.track)

    def _refuse(self, frame: int, target: int, error: GnomonError) -> None:
        self.due.append((frame, target))
        self.refused[frame, target] = error

    def _refused_before(self, waiting: collections.deque[tuple[int, int]], place: object) -> Iterator[Answer]:
        while waiting and waiting[0] != place and waiting[0] in self.refused:
            frame, target = waiting.popleft()
            yield Answer(frame, target, self.refused[frame, target])

    def _outcome(self, frame: int, target: int, record: dict[str, object]) -> PoseEstimate | GnomonError:
        if record.get("error") is not None:
            return MethodError(f"FoundationPose: {record['error']}", code="method_failed")
        try:
            T_cam_obj = self.exchange.answer(frame, target)
        except MethodError as error:
            return error
        item = self.objects[self.targets[target].mesh]
        if item.index not in self.views:
            self.views[item.index] = prepare_view(item.mesh)
        # Its own numbers only rank hypotheses of one frame, and tracking has none; so ours are used for both.
        score = depth_agreement(self.views[item.index], T_cam_obj, self.frames[frame].load(), item.mesh.diameter)
        state = "estimated" if target in self.frames[frame].masks else "tracked"
        seconds = record.get("seconds")
        return PoseEstimate(
            T_cam_obj=T_cam_obj,
            score=score,
            state="lost" if score < LOST_BELOW else state,
            ambiguous=False,
            runner_up=None,
            seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
        )


def _checked(cache: Path) -> Callable[[Path], list[str]]:
    """The command for a folder of a job, once all that it needs is there."""
    absent = places.missing(cache)
    program = places.apptainer()
    if absent or program is None:
        raise MissingError(
            f"method 'foundationpose' needs {' and '.join(absent)}",
            code="method_not_installed",
            field="method",
            value="foundationpose",
            fix=places.STEPS,
        )
    home = cache / places.FOLDER / "home"
    home.mkdir(parents=True, exist_ok=True)

    def for_folder(folder: Path) -> list[str]:
        image, weights = places.image(cache).resolve(), places.weights(cache).resolve()
        parts = (image, weights, folder / "exchange", folder / "tmp", home)
        return command(program, *(part.absolute() for part in parts))

    return for_folder


def _records(program: list[str], folder: Path) -> Generator[dict[str, object], None, None]:
    """Run the container and yield what it announces. It ends with us, however we end."""
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
    with guarded(Path(sys.executable), [EXEC, *program], cwd=folder, variables=_variables()) as process:
        for line in output_lines(process):
            sent = environments.record(line)
            if sent is not None:
                yield sent
                continue
            tail.append(line)
            sys.stdout.write(line + "\n")
        status = process.wait()
    if status != 0:
        raise MethodError(
            f"FoundationPose's container {ending(status)}. Its last lines:\n" + "\n".join(tail), code="method_failed"
        )


def _variables() -> dict[str, str]:
    """Our environment for Apptainer itself; inside there is only what is handed on by name."""
    variables = {key: text for key, text in os.environ.items() if not key.startswith(HIDDEN_PREFIXES)}
    for name in GPU_VARIABLES:
        if name in os.environ:
            # Both names: older programs know only the former one.
            variables[f"APPTAINERENV_{name}"] = variables[f"SINGULARITYENV_{name}"] = os.environ[name]
    return variables
