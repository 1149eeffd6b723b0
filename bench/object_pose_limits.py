"""Which wrong poses no method could have told from the true one, as the generated pictures are made.

    python bench/object_pose_limits.py [--trials N] [--seed S] [--tuning] [--real DIR] [--shapes a,b] [--json FILE]

For each wrong pose the scene of its trial is drawn again without faults, once with the object where it is and once
with the object at another pose B, everything else the same. From both pictures follows how many nats an observer can
expect to have learnt from the faulty picture for the true pose and against B, who knows the whole scene, its light,
its colours and the sensor's noise: the Kullback-Leibler divergence. B is the wrong pose, and every near symmetry of
the true one, moved to where the divergence is least, but not to within the limit of MSSD at which a pose is right.

Differences that a shift of one pixel explains do not count: each pixel of one picture is compared with the range of
the 3 x 3 pixels around it in the other, and the larger of the two ways counts. Then, by pixel:

- depth: the difference in disparity, cut at 3 standard deviations because the sensor may report a neighbour's depth,
  filtered with the spectrum of the noise that neighbours share and of the noise of each pixel (steps counted as such);
  pixels that are likely lost count less;
- losses: two Bernoulli distributions, because edges and grazing surfaces lose pixels;
- colour: white noise on the lit picture; the lens' blur takes nothing away as it blurs the noise as well. It counts as
  `outline` where only one of the pictures sees the object, as `shading` where both do.

A wrong pose is called, by the least sum over all B,

- undecidable: the sum is below LEAST_NATS, so that even that observer would be wrong now and then;
- by shading: without shading the sum is below LEAST_NATS; the method reads no shading on objects without colours;
- decidable: the rest, which are the method's own failures.

`strict` counts those that stay undecidable when differences within a pixel count as well. `held` says how many of the
decidable had the right pose among the last candidates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import object_pose_measures as measures
from jaxtyping import Bool, Float, Float32

from gnomon.evaluation.pose_errors import mssd
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.drawable import Drawable
from gnomon.tasks.object_pose.estimate import clean_depth
from gnomon.tasks.object_pose.methods.render_compare import search
from gnomon.tasks.object_pose.methods.render_compare.observation import crop_around, observe
from gnomon.tasks.object_pose.methods.render_compare.verdict import judge, pose_matrix
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.synthetic.canvas import OBJECT, Canvas
from gnomon.tasks.synthetic.real_shapes import real_shapes
from gnomon.tasks.synthetic.sensor import DepthNoise
from gnomon.tasks.synthetic.shapes import REPORTING, TUNING, Shape, make_shape
from gnomon.tasks.synthetic.trials import Trial, make_trial

LEAST_NATS = 5.0
"""Of evidence below which a pair of poses is undecidable: odds of 150 to 1 on average, about 1 in 20 goes wrong."""

WRONG = 0.1
COLOUR_NOISE = 0.02 * 255
CUT = 3.0
MARGIN_PX = 12
MOST_TWINS = 16
"""Of the true pose that are moved to their optimum: those with the least divergence before."""


@dataclass(frozen=True)
class Nats:
    """What is expected to be learnt against another pose."""

    depth: float = 0.0
    losses: float = 0.0
    outline: float = 0.0
    shading: float = 0.0
    pixels: int = 0
    """That differ by more than 3 standard deviations in depth or colour."""

    @property
    def total(self) -> float:
        return self.depth + self.losses + self.outline + self.shading

    @property
    def without_shading(self) -> float:
        return self.total - self.shading


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera without faults sees, and what the faulty one loses."""

    disparity: Float32[np.ndarray, "h w"]
    lost: Float32[np.ndarray, "h w"]
    """Probability of no measurement."""
    lit: Float32[np.ndarray, "h w 3"]
    """0 to 255, before the lens."""
    visible: Bool[np.ndarray, "h w"]


class Scene:
    """The window of a trial around the object, drawn with the object anywhere."""

    def __init__(self, trial: Trial, poses: list[np.ndarray]) -> None:
        (self.object,) = (part for part in trial.drawn if part.label == OBJECT)
        self.trial = trial
        low, high = _window(trial, self.object.body.drawable, poses)
        self.camera: Camera = trial.camera.cropped(*low, *(high - low))
        self.rest = Canvas(self.camera)
        for part in trial.drawn:
            if part.label != OBJECT:
                self.rest.add(*part)
        self.rays: Float32[np.ndarray, "h w 3"] = self.camera.rays().astype(np.float32)

    def canvas(self, T_cam_obj: np.ndarray) -> Canvas:
        """The scene with the object at a pose."""
        canvas = Canvas(self.camera)
        for name in ("depth_m", "normal_cam", "albedo", "label"):
            setattr(canvas, name, getattr(self.rest, name).copy())
        canvas.add(self.object.body, T_cam_obj, OBJECT, self.object.tint)
        return canvas

    def picture(self, T_cam_obj: np.ndarray) -> Picture:
        """The scene with the object at a pose, as `Picture`."""
        canvas, noise, light = self.canvas(T_cam_obj), self.trial.noise, self.trial.light
        shade = light.ambient + light.directed * np.maximum(canvas.normal_cam @ light.direction_cam, 0)
        lit = canvas.albedo * (shade[..., None] * light.tint)
        disparity = noise.focal_baseline_px_m / np.maximum(canvas.depth_m, 0.05)
        lost = _lost(canvas, self.rays, noise)
        return Picture(disparity.astype(np.float32), lost, np.minimum(lit, 255).astype(np.float32),
                       canvas.label == OBJECT)  # fmt: skip


def _window(trial: Trial, drawable: Drawable, poses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    corners = [trial.camera.project(drawable.vertices @ T[:3, :3].T + T[:3, :3] @ drawable.origin + T[:3, 3])
               for T in poses]  # fmt: skip
    pixels = np.concatenate(corners)
    size = np.array([trial.camera.width, trial.camera.height])
    low = np.clip(np.floor(pixels.min(axis=0)) - MARGIN_PX, 0, size - 32).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + MARGIN_PX, low + 32, size).astype(int)
    return low, high


def _lost(canvas: Canvas, rays: Float32[np.ndarray, "h w 3"], noise: DepthNoise) -> Float32[np.ndarray, "h w"]:
    """The probability that each pixel is not measured, as `sensor.measured_depth` has it."""
    around = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(canvas.depth_m, around) - cv2.erode(canvas.depth_m, around) > noise.edge_jump_m
    edge = cv2.dilate(jump.astype(np.uint8), around) > 0
    along = np.abs((canvas.normal_cam * rays).sum(axis=-1)) / np.linalg.norm(rays, axis=-1)
    kept = (1 - noise.edge_loss * edge) * (1 - noise.grazing_loss * (along < noise.grazing_cosine))
    return (1 - (1 - noise.blob_loss) * kept).astype(np.float32)


def learnt(true: Picture, other: Picture, noise: DepthNoise, reach_px: int) -> Nats:
    """Expected evidence for the true picture against another; differences within `reach_px` do not count."""
    white = noise.white_px**2 + noise.step_px**2 / 12
    sigma = np.sqrt(noise.smooth_px**2 + white)
    seen = np.sqrt(1 - np.maximum(true.lost, other.lost))
    apart = np.clip(_apart(true.disparity, other.disparity, reach_px), -CUT * sigma, CUT * sigma) * seen
    height, width = apart.shape
    size = (height + 16, width + 16)
    power = np.abs(np.fft.rfft2(apart, size)) ** 2
    # Both halves of the spectrum of a real picture.
    power[:, 1 : (size[1] + 1) // 2] *= 2
    depth = 0.5 * float((power / _spectrum(size, noise, white)).sum()) / (size[0] * size[1])
    p = true.lost
    q = np.clip(p - _apart(true.lost, other.lost, reach_px), 1e-3, 1 - 1e-3)
    losses = float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum())
    off = [_apart(true.lit[..., k], other.lit[..., k], reach_px) / COLOUR_NOISE for k in range(3)]
    colour = 0.5 * sum(part**2 for part in off)
    both = true.visible & other.visible
    differ = (np.abs(apart) > 0.99 * CUT * sigma * seen) | (np.abs(off).max(axis=0) > 3)
    differ &= true.visible | other.visible
    return Nats(depth, losses, float(colour[~both].sum()), float(colour[both].sum()), int(differ.sum()))


def _apart(a: Float32[np.ndarray, "h w"], b: Float32[np.ndarray, "h w"], reach_px: int) -> Float32[np.ndarray, "h w"]:
    """How far each pixel of one picture is beyond the range of those around it in the other; the larger way."""
    kernel = np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)
    there = a - np.clip(a, cv2.erode(b, kernel), cv2.dilate(b, kernel))
    back = np.clip(b, cv2.erode(a, kernel), cv2.dilate(a, kernel)) - b
    return np.where(np.abs(there) >= np.abs(back), there, back)


def _spectrum(size: tuple[int, int], noise: DepthNoise, white: float) -> Float[np.ndarray, "h w"]:
    """Power of the disparity's noise at each frequency, per pixel: smooth noise blurred to a deviation, and white."""
    v, u = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    r = noise.smooth_reach_px
    return noise.smooth_px**2 * 4 * np.pi * r**2 * np.exp(-((2 * np.pi * r) ** 2) * (u**2 + v**2)) + white


@dataclass(frozen=True)
class Judgement:
    """One wrong pose."""

    shape: str
    seed: int
    error: float
    """MSSD in diameters."""
    flagged: bool
    verdict: str
    strict: bool
    own: Nats
    """Against the wrong pose itself."""
    least: Nats
    """Against the pose of those tried that is hardest to tell."""
    held: bool
    """Whether a right pose was among the last candidates."""
    evidence_lost: float
    """Evidence of the chosen pose less that of the true one, refined in the same way."""


class Judge:
    """Decides for one trial whether its wrong pose could have been told."""

    def __init__(self, shape: Shape, model: PoseModel, trial: Trial) -> None:
        self.model, self.trial = model, trial
        step = max(len(shape.mesh.vertices) // 500, 1)
        self.points = np.ascontiguousarray(shape.mesh.vertices[::step], np.float64)
        self.symmetries = shape.symmetries.transforms(0.1)

    def error(self, T: np.ndarray) -> float:
        """MSSD in diameters."""
        return mssd(T, self.trial.T_cam_obj, self.points, self.symmetries) / self.model.diameter_m

    def nearest_other(self, T_wrong: np.ndarray) -> tuple[Nats, Nats, bool]:
        """Evidence against the wrong pose, against the hardest one, and whether the latter is strictly undecidable."""
        others = [T_wrong, *self._twins()]
        scene = Scene(self.trial, [self.trial.T_cam_obj, *others])
        true = scene.picture(self.trial.T_cam_obj)

        def cost(T: np.ndarray, reach_px: int = 1) -> Nats:
            return learnt(true, scene.picture(T), self.trial.noise, reach_px)

        starts = [T for T in self._refined(scene, others) if self.error(T) > WRONG]
        starts = [T_wrong, *starts, *(T for T in others[1:] if self.error(T) > WRONG)]
        starts.sort(key=lambda T: cost(T).total)
        own = self._descended(T_wrong, cost)
        ends = [own, *(self._descended(T, cost) for T in starts[:3])]
        nats = [cost(T) for T in ends]
        best = int(np.argmin([part.total for part in nats]))
        strict = min(cost(T, 0).total for T in [*ends, *starts[:MOST_TWINS]]) < LEAST_NATS
        return nats[0], nats[best], strict

    def _twins(self) -> list[np.ndarray]:
        """The true pose after each of the object's near symmetries."""
        model, T = self.model, self.trial.T_cam_obj
        near = se3.se3(model.near_symmetry_R, model.near_symmetry_t)
        to_centre = se3.se3(np.eye(3), -model.centre)
        back = se3.se3(np.eye(3), model.centre)
        return [T @ back @ motion @ to_centre for motion in near.reshape(-1, 4, 4)]

    def _refined(self, scene: Scene, poses: list[np.ndarray]) -> list[np.ndarray]:
        """Each pose after the method's own dense refinement on the true scene without faults."""
        trial, model = self.trial, self.model
        crop = crop_around(trial.true_visible_mask, trial.true_depth_m, trial.camera, model.diameter_m, 224)
        depth = clean_depth(trial.true_depth_m)
        seen = observe(trial.rgb, depth, trial.true_visible_mask, trial.camera, crop, use_colour=model.textured)
        R = np.ascontiguousarray([T[:3, :3] for T in poses])
        t = np.ascontiguousarray([T[:3, :3] @ model.centre + T[:3, 3] for T in poses])
        found = search.draw_and_refine(
            model, seen, R, t, taus=(0.03, 0.01), drawings=4, threads=1, colour=model.textured
        )
        return [pose_matrix(model, R, t) for R, t in zip(found.R, found.t, strict=True)]

    def _descended(self, T: np.ndarray, cost: Callable[[np.ndarray], Nats]) -> np.ndarray:
        """The pose near `T`, not a right one, at which the evidence is least: steps along each axis, halved."""
        best = cost(T).total
        turn, shift = 0.02, 0.01 * self.model.diameter_m
        for _ in range(5):
            for axis in range(6):
                for sign in (1.0, -1.0):
                    twist = np.zeros(6)
                    twist[axis] = sign * (turn if axis < 3 else shift)
                    moved = T.copy()
                    moved[:3, :3] = se3.so3_exp(twist[:3]) @ T[:3, :3]
                    middle = T[:3, :3] @ self.model.centre + T[:3, 3] + twist[3:]
                    moved[:3, 3] = middle - moved[:3, :3] @ self.model.centre
                    if self.error(moved) > WRONG and (value := cost(moved).total) < best:
                        T, best = moved, value
                        break
                if best < 0.01:
                    return T
            turn, shift = turn / 2, shift / 2
        return T


def judged(shape: Shape, model: PoseModel, seed: int) -> Judgement | None:
    """None if the estimate is right."""
    trial = make_trial(shape, seed, occlusion=(0.0, 0.35))
    depth = clean_depth(trial.depth_m)
    trace: dict = {}
    last = search.find(
        model, trial.rgb, depth, trial.mask, trial.camera, threads=1, effort=search.Effort(), trace=trace
    )
    found = judge(model, last, seconds=0.0)
    about = Judge(shape, model, trial)
    error = about.error(found.T_cam_obj)
    if error < WRONG:
        return None
    own, least, strict = about.nearest_other(found.T_cam_obj)
    verdict = "decidable"
    if least.total < LEAST_NATS:
        verdict = "undecidable"
    elif least.without_shading < LEAST_NATS and not shape.is_coloured:
        verdict = "by shading"
    held = any(about.error(pose_matrix(model, R, t)) < WRONG for R, t in zip(last.R, last.t, strict=True))
    T = trial.T_cam_obj
    right = search.draw_and_refine(
        model, trace["fine"], T[None, :3, :3].copy(), (T[:3, :3] @ model.centre + T[:3, 3])[None], taus=(0.03, 0.015),
        drawings=2, threads=1, colour=True,
    )  # fmt: skip
    lost = float(last.evidence[0] - right.evidence[0])
    flagged = found.ambiguous or found.state == "lost"
    return Judgement(shape.name, seed, error, flagged, verdict, strict, own, least, held, lost)


def main() -> None:
    measures.one_thread_each()
    arguments = _arguments()
    shapes = [make_shape(name) for name in (TUNING if arguments.tuning else REPORTING)]
    if arguments.real and not arguments.tuning:
        shapes += real_shapes(arguments.real)
    if arguments.shapes:
        shapes = [shape for shape in shapes if shape.name in arguments.shapes.split(",")]
    print("object, seed | MSSD | nats against the pose itself; the hardest: depth, losses, outline, shading, pixels |")
    found: list[Judgement] = []
    for shape in shapes:
        model = prepare(shape.mesh)
        for seed in range(arguments.seed, arguments.seed + arguments.trials):
            one = judged(shape, model, seed)
            if one is not None:
                found.append(one)
                print(_line(one), flush=True)
        print(f"{shape.name} done", file=sys.stderr, flush=True)
    _print(found, arguments.trials * len(shapes))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")


def _line(one: Judgement) -> str:
    n = one.least
    parts = f"{n.depth:.1f}, {n.losses:.1f}, {n.outline:.1f}, {n.shading:.1f}, {n.pixels} px"
    why = f"{'held' if one.held else 'missed'}, evidence lost {one.evidence_lost:+.3f}"
    flag = "flagged" if one.flagged else "unflagged"
    return (
        f"{one.shape}, {one.seed} | {one.error:.2f} | {one.own.total:.1f}; {parts} | "
        f"{one.verdict}{', strict' if one.strict else ''} | {why} | {flag}"
    )


def _print(found: list[Judgement], trials: int) -> None:
    print(f"\n{trials} trials, {len(found)} wrong; below {LEAST_NATS:g} nats:")
    for verdict in ("undecidable", "by shading", "decidable"):
        these = [one for one in found if one.verdict == verdict]
        text = f"{verdict}: {len(these)}, flagged {sum(one.flagged for one in these)}"
        text += f", strict {sum(one.strict for one in these)}, held {sum(one.held for one in these)}"
        print(text + f", true pose of more evidence {sum(one.evidence_lost < 0 for one in these)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="pictures of each object (default 10)")
    parser.add_argument("--seed", type=int, help="of the first trial (default 5000; with --tuning 1000)")
    parser.add_argument("--tuning", action="store_true", help="shapes that were used for tuning")
    parser.add_argument("--real", type=Path, metavar="DIR", help="also the mesh files of real_shapes.REAL")
    parser.add_argument("--shapes", help="only these, separated by commas")
    parser.add_argument("--json", type=Path, help="result file")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = 1000 if arguments.tuning else 5000
    return arguments


if __name__ == "__main__":
    main()
