"""A moving object, or a moving camera before one: many pictures, a mask for the first, a true pose for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import ViewMesh
from gnomon.tasks.synthetic import surroundings
from gnomon.tasks.synthetic.canvas import CLUTTER, OBJECT, OCCLUDER, SUPPORT, WALL, Canvas, view_in_window
from gnomon.tasks.synthetic.masks import MaskMode, make_mask
from gnomon.tasks.synthetic.motion import smooth_path
from gnomon.tasks.synthetic.sensor import DepthNoise, Light, measured_depth, photograph, random_light
from gnomon.tasks.synthetic.shapes import Shape
from gnomon.tasks.synthetic.trials import CAMERA, prepared_shape

PEAK_SPEED_M_S = (0.25, 0.4)
"""Range of the fastest moment of a hand-held thing; one value is drawn for each sequence."""

PEAK_TURN_DEG_S = (45.0, 90.0)

Mover = Literal["object", "camera"]

_MARGIN_PX = 12
_ATTEMPTS = 50
_LEAST_ELEVATION_SINE = 0.25
"""A moving camera stays at least this far above the support, seen from the object."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a sequence."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]
    """As measured; 0 = no measurement."""
    T_cam_obj: Float64[np.ndarray, "4 4"]
    visible_fraction: float
    """Visible pixels over those of the object without anything in front of it."""
    true_visible_mask: Bool[np.ndarray, "H W"]
    true_depth_m: Float32[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class _Thing:
    """A body of the scene: a pose for each frame, or one for all."""

    prepared: ViewMesh
    T_cam_body: Float64[np.ndarray, "N 4 4"]
    label: int
    tint: Float64[np.ndarray, " 3"]
    frames: range
    """When it is there."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """Frames are drawn when they are asked for, each the same however often and in whatever order."""

    camera: Camera
    fps: float
    T_cam_obj: Float64[np.ndarray, "N 4 4"]
    """The true pose in every frame."""
    mask: Bool[np.ndarray, "H W"]
    """The object in the first frame, as segmented, with errors."""
    _things: tuple[_Thing, ...]
    _light: Light
    _noise: DepthNoise
    _seed: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.T_cam_obj)

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(index) for index in range(len(self)))

    def frame(self, index: int) -> Frame:
        """The frame at an index from 0 on; about 0.1 s."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        canvas = _draw(self._things, index, self.camera)
        rng = np.random.default_rng([*self._seed, index])
        shape = self._things[0]
        alone = view_in_window(shape.prepared, self.T_cam_obj[index], self.camera, colour=False)
        alone_px = 0 if alone is None else int((alone[0].depth_m > 0).sum())
        visible = canvas.label == OBJECT
        return Frame(
            rgb=photograph(canvas.albedo, canvas.normal_cam, self._light, rng),
            depth_m=measured_depth(canvas.depth_m, canvas.normal_cam, self.camera, rng, self._noise),
            T_cam_obj=self.T_cam_obj[index],
            visible_fraction=float(visible.sum() / max(alone_px, 1)),
            true_visible_mask=visible,
            true_depth_m=canvas.depth_m,
        )


def make_sequence(
    shape: Shape,
    seed: int,
    *,
    n_frames: int,
    fps: float = 30.0,
    speed: float | Literal["hand_held"] = "hand_held",
    mover: Mover | None = None,
    occlusions: bool = True,
    clutter: int = 8,
    mask_mode: MaskMode = "standard",
    camera: Camera = CAMERA,
    noise: DepthNoise | None = None,
) -> Sequence:
    """A sequence of `shape` in smooth random motion with six degrees of freedom, wholly inside the picture.

    Args:
        shape: of `make_shape` or `real_shapes`.
        seed: of everything random.
        n_frames: 1 or more.
        fps: frames per second.
        speed: a factor on the peak speeds of PEAK_SPEED_M_S and PEAK_TURN_DEG_S; "hand_held" is 1.
        mover: what moves before the scene; drawn if None. With "camera" the object rests among the clutter.
        occlusions: whether things pass in front of the object now and then; never in the first half second.
        clutter: things around the object.
        mask_mode: errors of the first frame's mask, see `make_mask`.
        camera: of all pictures.
        noise: faults of the depth camera.

    Raises:
        InputError: `n_frames`, `fps` or `speed` is not positive, or the object does not fit into the picture.
    """
    factor = 1.0 if speed == "hand_held" else float(speed)
    _check_positive(n_frames=n_frames, fps=fps, speed=factor)
    rng = np.random.default_rng([seed, n_frames, *shape.name.encode()])
    mover = mover or ("object", "camera")[rng.integers(2)]
    prepared = prepared_shape(shape)
    with_camera = mover == "camera"
    T_cam_obj, up_cam = _motion(prepared, camera, np.arange(n_frames) / fps, factor, with_camera, rng)
    tint = np.ones(3) if shape.is_coloured else surroundings.random_tint(rng)
    things = [_Thing(prepared, T_cam_obj, OBJECT, tint, range(n_frames))]
    backdrops, T_cam_support, free_m = _scenery(prepared, T_cam_obj, up_cam, with_camera, rng)
    things += backdrops + _clutter(things[0], camera, T_cam_support, free_m, with_camera, clutter, rng)
    if occlusions:
        things += _passers_by(prepared, T_cam_obj, camera, fps, rng)
    return Sequence(
        camera=camera,
        fps=fps,
        T_cam_obj=T_cam_obj,
        mask=make_mask(_draw(tuple(things), 0, camera).label, rng, mask_mode),
        _things=tuple(things),
        _light=random_light(rng),
        _noise=noise or DepthNoise(),
        _seed=(seed, n_frames, *shape.name.encode()),
    )


def _check_positive(**numbers: float) -> None:
    for field, number in numbers.items():
        if not number > 0:
            raise InputError(
                f"{field} is {number}, not above 0", field=field, value=number, expected="a number above 0",
                fix=f"give a positive {field}",
            )  # fmt: skip


def _draw(things: tuple[_Thing, ...], index: int, camera: Camera) -> Canvas:
    canvas = Canvas(camera)
    for thing in things:
        if index in thing.frames:
            canvas.add(thing.prepared, thing.T_cam_body[min(index, len(thing.T_cam_body) - 1)], thing.label, thing.tint)
    return canvas


def _motion(
    prepared: ViewMesh,
    camera: Camera,
    times_s: Float64[np.ndarray, " N"],
    factor: float,
    with_camera: bool,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, "N 4 4"], Float64[np.ndarray, " 3"]]:
    """Poses with the whole object inside the picture, and the support's normal in the first frame."""
    reach_m = np.array([0.11, 0.08, 0.12])
    for attempt in range(_ATTEMPTS):
        # Large objects in small pictures get less room and more distance.
        shrink = 0.93**attempt
        path_m = smooth_path(rng, times_s, reach_m * shrink, factor * rng.uniform(*PEAK_SPEED_M_S))
        # A camera that turns far around an object would end up below the support.
        reach_rad = np.full(3, 0.35 if with_camera else 0.8)
        turns = smooth_path(rng, times_s, reach_rad, factor * np.radians(rng.uniform(*PEAK_TURN_DEG_S)))
        R = surroundings.random_rotation(rng) @ _turned(turns)
        start_m = np.array([*rng.uniform(-0.08, 0.08, 2) * shrink, rng.uniform(0.6, 0.95) / shrink**0.3])
        T_cam_obj = se3.se3(R, start_m + path_m - R @ prepared.drawable.origin)
        up_cam = _view_from_above(T_cam_obj, with_camera, rng)
        if up_cam is not None and all(_is_inside(prepared, T, camera) for T in T_cam_obj):
            return T_cam_obj, up_cam
    raise InputError(
        "the object is too large for the camera's picture",
        field="shape",
        value=float(2 * np.linalg.norm(prepared.drawable.half_extent)),
        expected="an object that fits into the picture at about 1 m",
        fix="take a smaller object or a wider camera",
    )


def _turned(turns: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3 3"]:
    """Rotations whose angular velocity, in the object's axes, is the derivative of `turns` in radians."""
    R = np.empty((len(turns), 3, 3))
    R[0] = np.eye(3)
    for i, step in enumerate(se3.so3_exp(np.diff(turns, axis=0))):
        R[i + 1] = R[i] @ step
    return R


def _is_inside(prepared: ViewMesh, T_cam_obj: Float[np.ndarray, "4 4"], camera: Camera) -> bool:
    """Whether the object's box is in the picture with a margin, and not too near for a depth camera."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = se3.apply(T_cam_obj, prepared.drawable.origin + signs * prepared.drawable.half_extent)
    if corners[:, 2].min() < 0.3:
        return False
    pixels = camera.project(corners)
    limit = np.array([camera.width, camera.height]) - 1 - _MARGIN_PX
    return bool((pixels >= _MARGIN_PX).all() and (pixels <= limit).all())


def _view_from_above(
    T_cam_obj: Float64[np.ndarray, "N 4 4"], with_camera: bool, rng: np.random.Generator
) -> Float64[np.ndarray, " 3"] | None:
    """The support's normal in the first frame; None if a moving camera would look at it from below or along it."""
    for _ in range(20):
        up_cam = np.array([rng.normal(0, 0.2), -rng.uniform(0.4, 1.0), -rng.uniform(0.4, 1.0)])
        up_cam /= np.linalg.norm(up_cam)
        if not with_camera:
            return up_cam
        ups_cam = T_cam_obj[:, :3, :3] @ (T_cam_obj[0, :3, :3].T @ up_cam)
        to_object = T_cam_obj[:, :3, 3] / np.linalg.norm(T_cam_obj[:, :3, 3], axis=-1, keepdims=True)
        if (ups_cam * to_object).sum(axis=-1).max() < -_LEAST_ELEVATION_SINE:
            return up_cam
    return None


def _scenery(
    prepared: ViewMesh,
    T_cam_obj: Float64[np.ndarray, "N 4 4"],
    up_cam: Float64[np.ndarray, " 3"],
    with_camera: bool,
    rng: np.random.Generator,
) -> tuple[list[_Thing], Float64[np.ndarray, "4 4"], float]:
    """Support and wall, T_cam_support of the first frame, and how far from the support's origin the object comes.

    They are fixed to the object if the camera moves, else they stand still, the support below all the object's places.
    """
    vertices = prepared.drawable.vertices[:: max(1, len(prepared.drawable.vertices) // 2000)] + prepared.drawable.origin
    swept_cam = se3.apply(T_cam_obj[:1] if with_camera else T_cam_obj, vertices).reshape(-1, 3)
    centre_cam = se3.apply(T_cam_obj[0], vertices).mean(axis=0)
    gap_m = 0.0 if with_camera else 0.02
    foot_cam = centre_cam + up_cam * ((swept_cam @ up_cam).min() - gap_m - centre_cam @ up_cam)
    T_cam_support = surroundings.frame_on_plane(up_cam, foot_cam, rng.uniform(0, 2 * np.pi))
    towards = np.array([rng.normal(0, 0.2), rng.normal(0, 0.15), -1.0])
    behind = np.array([0, 0, swept_cam[:, 2].max() + rng.uniform(0.8, 2.0)])
    T_cam_wall = surroundings.frame_on_plane(towards / np.linalg.norm(towards), behind, rng.uniform(0, 2 * np.pi))
    moves = _moves(T_cam_obj, with_camera)
    things = [
        _Thing(surroundings.backdrop(rng), moves @ T, label, rng.uniform(0.75, 1.0, 3), range(len(T_cam_obj)))
        for T, label in ((T_cam_support, SUPPORT), (T_cam_wall, WALL))
    ]
    return things, T_cam_support, float(np.linalg.norm(np.cross(swept_cam - foot_cam, up_cam), axis=-1).max())


def _moves(T_cam_obj: Float64[np.ndarray, "N 4 4"], with_camera: bool) -> Float64[np.ndarray, "M 4 4"]:
    """What resting things do in the camera's frame since the first picture."""
    return T_cam_obj @ se3.inverse(T_cam_obj[0]) if with_camera else np.eye(4)[None]


def _clutter(
    shape: _Thing,
    camera: Camera,
    T_cam_support: Float64[np.ndarray, "4 4"],
    free_m: float,
    with_camera: bool,
    count: int,
    rng: np.random.Generator,
) -> list[_Thing]:
    """Resting things; a moving object flies over them, a resting one lies within. None hides much of it for long."""
    moves = _moves(shape.T_cam_body, with_camera)
    looks = []
    for index in np.linspace(0, len(shape.T_cam_body) - 1, 6).astype(int):
        canvas = Canvas(camera)
        canvas.add(shape.prepared, shape.T_cam_body[index], OBJECT, shape.tint)
        looks.append((canvas, min(index, len(moves) - 1), 0.1 * (canvas.label == OBJECT).sum()))
    things = []
    for index in range(count):
        for _ in range(4):
            body = surroundings.clutter_body(rng)
            T_cam_body = moves @ surroundings.standing(body, T_cam_support, free_m, rng)
            if all(canvas.would_hide(body.prepared, T_cam_body[at]) <= most for canvas, at, most in looks):
                tint = surroundings.random_tint(rng)
                things.append(_Thing(body.prepared, T_cam_body, CLUTTER + index, tint, shape.frames))
                break
    return things


def _passers_by(
    prepared: ViewMesh,
    T_cam_obj: Float64[np.ndarray, "N 4 4"],
    camera: Camera,
    fps: float,
    rng: np.random.Generator,
) -> list[_Thing]:
    """Things that cross the view of the object, about one in two seconds, for less than a second each."""
    count, radius_m = len(T_cam_obj), float(np.linalg.norm(prepared.drawable.half_extent))
    centres = se3.apply(T_cam_obj, prepared.drawable.origin[None])[:, 0]
    things, start = [], int(fps * rng.uniform(0.5, 1.5))
    while start < count:
        frames = range(start, min(start + max(2, int(fps * rng.uniform(0.5, 0.9))), count))
        body = surroundings.occluder_body(rng, radius_m * rng.uniform(0.5, 1.3))
        R, angle = surroundings.random_rotation(rng), rng.uniform(0, 2 * np.pi)
        across = np.array([np.cos(angle), np.sin(angle), 0])
        poses = np.tile(np.eye(4), (count, 1, 1))
        for i in frames:
            share = float(np.clip((centres[i, 2] - radius_m - body.radius_m) / centres[i, 2], 0.35, 0.85))
            along = 2 * (i - start) / max(len(frames) - 1, 1) - 1
            place = centres[i] * share + across * along * 1.3 * (radius_m * share + body.radius_m)
            poses[i] = se3.se3(R, place)
        things.append(_Thing(body.prepared, poses, OCCLUDER, surroundings.random_tint(rng), frames))
        start = frames.stop + int(fps * rng.uniform(0.8, 2.2))
    return things
