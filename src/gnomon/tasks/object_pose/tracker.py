"""Follow one object from frame to frame: a mask on the first, none afterwards."""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from gnomon.errors import MethodError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.estimate import check_sizes, clean_depth, estimate
from gnomon.tasks.object_pose.methods.render_compare import search
from gnomon.tasks.object_pose.methods.render_compare.continuity import Pose, unexpectedness
from gnomon.tasks.object_pose.methods.render_compare.follow import Followed, Spread, follow, mask_at
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.revision import bodies
from gnomon.tasks.object_pose.methods.render_compare.rivals import Rivals
from gnomon.tasks.object_pose.methods.render_compare.search import Effort
from gnomon.tasks.object_pose.methods.render_compare.verdict import FOUND, judge, pose_matrix
from gnomon.tasks.object_pose.pose import PoseEstimate, RunnerUp

STARTS = 25
MORE_STARTS = 80

LEAST_ANGLE, MOST_ANGLE = np.radians(2.5), np.radians(9.0)
LEAST_SHIFT_M, MOST_SHIFT_M = 0.004, 0.02
"""Bounds of the spread of starts around the prediction."""

DOUBT = 0.85
"""A score below this share of the object's usual one makes the tracker look farther around."""

LOST = 0.6
"""Below this share it does not believe what it found."""

LEAST_SCORE = 0.2
MEMORY, SLOW_MEMORY = 0.9, 0.985
"""How slowly the usual score follows the scores of tracked frames, up and down."""

MOST_TURN = np.radians(30.0)
"""A frame that seems to turn the object further than this from the prediction is not believed."""

MOST_BODIES = 4
"""Things around the last place that are tried as the lost object, the largest first."""

SEARCH_RADIUS = 0.62
"""Diameters around the last place in which a lost object is looked for, growing while it stays lost."""

LARGEST_SEARCH_RADIUS = 1.6

REGAINED = 0.04
"""What a pose turned otherwise than before the loss has to be better by, in evidence."""

REGAINED_RAD, REGAINED_RAD_PER_FRAME = np.radians(10.0), np.radians(3.0)
"""How far an object turns out of sight: standard deviation, at once and for each frame."""


class Tracker:
    """The pose of one object through a sequence of RGB-D frames.

        tracker = Tracker(prepare(mesh), camera)
        first = tracker.start(rgb, depth_m, mask)
        for rgb, depth_m in frames:
            pose = tracker.step(rgb, depth_m)

    A step costs about a tenth of an `estimate`. When the object is lost the state says so, and every further step
    looks for it around its last place; call `start` with a new mask when one is at hand. Not for several threads.
    """

    def __init__(self, model: PoseModel, camera: Camera, *, threads: int = 1) -> None:
        self.model = model
        self.camera = camera
        self.threads = threads
        self._rng = np.random.default_rng(0)
        self._pose: tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]] | None = None
        self._turn = np.zeros(3)
        self._shift = np.zeros(3)
        self._surprise = np.array([MOST_ANGLE, MOST_SHIFT_M]) / 2
        self._usual = 0.0
        self._frames_lost = 0
        self._frames_in_doubt = 0
        self._rivals = Rivals(model, [])
        self._rival: RunnerUp | None = None
        """Relative to the object: T_cam_obj @ it is the other pose."""

    def start(
        self,
        rgb: UInt8[np.ndarray, "H W 3"],
        depth_m: Float[np.ndarray, "H W"],
        mask: Bool[np.ndarray, "H W"],
    ) -> PoseEstimate:
        """`estimate` on a frame with a mask; tracking goes on from there. Raises what `estimate` raises."""
        found = estimate(self.model, rgb, depth_m, mask, self.camera, threads=self.threads)
        self._begin(found)
        return found

    def step(self, rgb: UInt8[np.ndarray, "H W 3"], depth_m: Float[np.ndarray, "H W"]) -> PoseEstimate:
        """The pose in the next frame.

        Raises:
            InputError: sizes_differ.
            MethodError: tracker_not_started before the first `start`.
        """
        began = time.perf_counter()
        if self._pose is None:
            raise MethodError(
                "the tracker has no pose to start from",
                code="tracker_not_started",
                fix="call start(rgb, depth_m, mask) on a frame with a mask first",
            )
        check_sizes(rgb, depth_m, None, self.camera)
        depth = clean_depth(depth_m)
        followed = self._follow(rgb, depth)
        # After a loss the object may have turned meanwhile, and a turned pose fits by halves.
        share = DOUBT if self._frames_lost else LOST
        if followed is not None and followed.score >= max(share * self._usual, LEAST_SCORE):
            self._accept(followed)
            better = self._look_again(rgb, depth, began)
            if better is None and followed.score >= DOUBT * self._usual:
                better = self._overtaken(followed, began)
            return better if better is not None else self._tracked(followed, began)
        return self._look_around(rgb, depth, followed, began)

    def _tracked(self, followed: Followed, began: float) -> PoseEstimate:
        T_cam_obj = pose_matrix(self.model, followed.R, followed.t)
        runner_up = None
        if self._rival is not None:
            runner_up = RunnerUp(T_cam_obj @ self._rival.T_cam_obj, self._rival.margin)
        return PoseEstimate(
            T_cam_obj=T_cam_obj,
            score=followed.score,
            state="tracked",
            ambiguous=runner_up is not None,
            runner_up=runner_up,
            seconds=time.perf_counter() - began,
        )

    def _overtaken(self, followed: Followed, began: float) -> PoseEstimate | None:
        """The rival that the frames so far speak for, if there is one now."""
        pose = self._rivals.watch(followed.seen, (followed.R, followed.t), self.threads)
        if pose is None:
            return None
        self._pose = pose
        self._rivals = Rivals(self.model, [_between(pose, (followed.R, followed.t))])
        self._rival = None
        return PoseEstimate(
            T_cam_obj=pose_matrix(self.model, *pose),
            score=followed.score,
            state="reacquired",
            ambiguous=False,
            runner_up=None,
            seconds=time.perf_counter() - began,
        )

    def _look_again(
        self, rgb: UInt8[np.ndarray, "H W 3"], depth: Float32[np.ndarray, "H W"], began: float
    ) -> PoseEstimate | None:
        """After an ambiguous start, now and then a new estimate, until one is not ambiguous.

        Tracking cannot do it: a handle that comes into sight where the pose has none is to it a thing nearby.
        """
        if self._rival is None:
            return None
        self._frames_in_doubt += 1
        # Frames 1, 2, 4, 8 and so on; at least every sixteenth.
        if self._frames_in_doubt % 16 and self._frames_in_doubt not in (1, 2, 4, 8):
            return None
        assert self._pose is not None
        mask = mask_at(self.model, depth, self.camera, *self._pose)
        if mask is None or int((mask & (depth > 0)).sum()) < 40:
            return None
        candidates = search.find(
            self.model, rgb, depth, mask, self.camera, threads=self.threads, effort=Effort(refined=400, drawn=40)
        )
        new = judge(self.model, candidates, seconds=time.perf_counter() - began, good="reacquired")
        if not new.found or new.ambiguous or new.score < DOUBT * self._usual:
            return None
        usual, turn, shift = self._usual, self._turn, self._shift
        self._begin(new)
        self._usual, self._turn, self._shift = usual, turn, shift
        return new

    def _begin(self, found: PoseEstimate) -> None:
        self._pose = self._about_centre(found.T_cam_obj)
        self._turn, self._shift = np.zeros(3), np.zeros(3)
        self._surprise = np.array([MOST_ANGLE, MOST_SHIFT_M]) / 2
        self._usual = found.score
        self._frames_lost = 0
        self._frames_in_doubt = 0
        others = []
        if found.runner_up is not None:
            others.append(_between(self._pose, self._about_centre(found.runner_up.T_cam_obj)))
        self._rivals = Rivals(self.model, others)
        self._rival = None
        if found.ambiguous and found.runner_up is not None:
            between = se3.inverse(found.T_cam_obj) @ found.runner_up.T_cam_obj
            self._rival = RunnerUp(between, found.runner_up.margin)

    def _about_centre(self, T_cam_obj: Float64[np.ndarray, "4 4"]) -> Pose:
        R = T_cam_obj[:3, :3]
        return R, R @ self.model.centre + T_cam_obj[:3, 3]

    def _follow(self, rgb: UInt8[np.ndarray, "H W 3"], depth: Float32[np.ndarray, "H W"]) -> Followed | None:
        assert self._pose is not None
        R, t = self._pose
        predicted = se3.so3_exp(self._turn) @ R, t + self._shift
        angle = float(np.clip(2 * self._surprise[0], LEAST_ANGLE, MOST_ANGLE))
        shift = float(np.clip(2 * self._surprise[1], LEAST_SHIFT_M, MOST_SHIFT_M))
        spread = Spread(angle, shift, STARTS)
        guesses = [predicted, (R, t)]
        found = follow(self.model, rgb, depth, self.camera, guesses, spread, self._rng, self.threads)
        if found is not None and found.score >= DOUBT * self._usual and not self._frames_lost:
            return found
        wide = Spread(MOST_ANGLE, MOST_SHIFT_M, MORE_STARTS)
        if found is not None:
            guesses.append((found.R, found.t))
        again = follow(self.model, rgb, depth, self.camera, guesses, wide, self._rng, self.threads)
        best = found if again is None or (found is not None and found.worth > again.worth) else again
        turned = best is not None and se3.geodesic_angle(predicted[0], best.R) > MOST_TURN
        # Half hidden, a long thing fits upside down about as well.
        return None if turned else best

    def _accept(self, found: Followed) -> None:
        """Learn the motion, and how well it was predicted, from a pose that is believed."""
        assert self._pose is not None
        R, t = self._pose
        turn, shift = se3.so3_log(found.R @ R.T), found.t - t
        off = np.array([np.linalg.norm(turn - self._turn), np.linalg.norm(shift - self._shift)])
        self._surprise = 0.7 * self._surprise + 0.3 * off
        self._turn = 0.3 * self._turn + 0.6 * turn
        self._shift = 0.3 * self._shift + 0.65 * shift
        # Slowly down: a thing that moves in front must not become what is usual.
        memory = MEMORY if found.score > self._usual else SLOW_MEMORY
        self._usual = memory * self._usual + (1 - memory) * found.score
        self._pose = found.R, found.t
        self._frames_lost = 0

    def _look_around(
        self,
        rgb: UInt8[np.ndarray, "H W 3"],
        depth: Float32[np.ndarray, "H W"],
        followed: Followed | None,
        began: float,
    ) -> PoseEstimate:
        """Search anew around the last place, with all that is near enough for a mask."""
        assert self._pose is not None
        self._frames_lost += 1
        near = self._surroundings(depth)
        best: PoseEstimate | None = None
        for mask in (near, *bodies(near, depth, self.camera, MOST_BODIES)):
            if int(mask.sum()) < 40:
                continue
            candidates = search.find(
                self.model, rgb, depth, mask, self.camera, threads=self.threads, effort=Effort(refined=400, drawn=40)
            )
            candidates = self._as_before(candidates)
            new = judge(self.model, candidates, seconds=time.perf_counter() - began, good="reacquired")
            if best is None or new.score > best.score:
                best = new
        if best is not None and best.score >= max(FOUND, DOUBT * self._usual):
            usual = self._usual
            self._begin(best)
            self._usual = usual
            return best
        R, t = self._pose
        self._turn, self._shift = np.zeros(3), np.zeros(3)
        guess = (followed.R, followed.t, followed.score) if followed is not None else (R, t, 0.0)
        return PoseEstimate(
            T_cam_obj=pose_matrix(self.model, guess[0], guess[1]),
            score=guess[2],
            state="lost",
            ambiguous=False,
            runner_up=None,
            seconds=time.perf_counter() - began,
        )

    def _as_before(self, candidates: search.Candidates) -> search.Candidates:
        """Candidates in a new order: of those that are about as good, first those turned as before the loss."""
        assert self._pose is not None
        angle = REGAINED_RAD + REGAINED_RAD_PER_FRAME * self._frames_lost
        turned = [unexpectedness(candidates.R @ S, self._pose[0], angle) for S in self.model.symmetry_R]
        return candidates.take(np.argsort(REGAINED * np.min(turned, axis=0) - candidates.evidence))

    def _surroundings(self, depth: Float32[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        """Measured points within some diameters of the object's last place."""
        assert self._pose is not None
        _, t = self._pose
        radius = (
            min(SEARCH_RADIUS * (1 + 0.15 * (self._frames_lost - 1)), LARGEST_SEARCH_RADIUS) * self.model.diameter_m
        )
        camera = self.camera
        mask = np.zeros(depth.shape, bool)
        if t[2] <= radius:
            return mask
        u, v = camera.project(t)
        reach = radius * camera.fx / (t[2] - radius)
        x0, x1 = int(max(u - reach, 0)), int(min(u + reach + 1, camera.width))
        y0, y1 = int(max(v - reach, 0)), int(min(v + reach + 1, camera.height))
        if x0 >= x1 or y0 >= y1:
            return mask
        z = depth[y0:y1, x0:x1]
        x = (np.arange(x0, x1) - camera.cx)[None] / camera.fx * z
        y = (np.arange(y0, y1) - camera.cy)[:, None] / camera.fy * z
        near = (x - t[0]) ** 2 + (y - t[1]) ** 2 + (z - t[2]) ** 2 < radius**2
        mask[y0:y1, x0:x1] = near & (z > 0)
        return mask


def _between(pose: Pose, other: Pose) -> Pose:
    """The motion on the object's side that takes one pose about the centre to another."""
    return pose[0].T @ other[0], pose[0].T @ (other[1] - pose[1])
