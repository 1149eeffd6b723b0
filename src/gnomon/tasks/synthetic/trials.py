"""One picture of one object in a random scene, with the true pose."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from gnomon.errors import InputError
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.view import ViewMesh, prepare_view
from gnomon.tasks.synthetic import surroundings
from gnomon.tasks.synthetic.canvas import CLUTTER, OBJECT, OCCLUDER, SUPPORT, WALL, Canvas, Drawn, view_in_window
from gnomon.tasks.synthetic.masks import MaskMode, make_mask
from gnomon.tasks.synthetic.sensor import DepthNoise, Light, measured_depth, photograph, random_light
from gnomon.tasks.synthetic.shapes import Shape

CAMERA = Camera(fx=572.4, fy=573.6, cx=325.3, cy=242.0, width=640, height=480)
"""Of the Kinect kind, as in the LINEMOD data sets."""

OCCLUSION_SLACK = 0.06
"""How far the share of hidden pixels may be from the one drawn."""

_ATTEMPTS = 100


@dataclass(frozen=True, eq=False)
class Trial:
    """What an RGB-D camera and a segmenter give, and the truth."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]
    """As measured; 0 = no measurement."""
    mask: Bool[np.ndarray, "H W"]
    """As segmented, with errors."""
    camera: Camera
    T_cam_obj: Float64[np.ndarray, "4 4"]
    """The true pose in metres."""
    visible_fraction: float
    """Visible pixels over those of the object without anything in front of it, both inside the picture."""
    true_visible_mask: Bool[np.ndarray, "H W"]
    true_depth_m: Float32[np.ndarray, "H W"]
    """Of the whole scene, without faults."""
    drawn: tuple[Drawn, ...]
    """All bodies of the scene, the object among them."""
    light: Light
    noise: DepthNoise


def make_trial(
    shape: Shape,
    seed: int,
    *,
    occlusion: tuple[float, float] = (0.0, 0.35),
    distance_m: tuple[float, float] = (0.5, 1.2),
    clutter: int = 8,
    mask_mode: MaskMode = "standard",
    camera: Camera = CAMERA,
    noise: DepthNoise | None = None,
    depth_bias_m: float = 0.0,
    least_visible_px: int = 250,
) -> Trial:
    """A picture of `shape` in a random pose on a support among clutter; the same arguments give the same bytes.

    Args:
        shape: of `make_shape` or `real_shapes`.
        seed: of everything random. Pose, scene and faults of two shapes with one seed differ.
        occlusion: range of the share of the object's pixels that other things hide, up to 0.8; met to within
            OCCLUSION_SLACK.
        distance_m: range of the depth of the object's centre.
        clutter: things around the object.
        mask_mode: which errors the mask has, see `make_mask`.
        camera: of both pictures.
        noise: faults of the depth camera.
        depth_bias_m: added to all depths that are measured.
        least_visible_px: poses in which less of the object is visible are not taken.

    Raises:
        InputError: `occlusion` is no range within 0 to 0.8, or no pose shows enough of the object.
    """
    _check_occlusion(occlusion)
    rng = np.random.default_rng([seed, *shape.name.encode()])
    prepared = prepared_shape(shape)
    for _ in range(_ATTEMPTS):
        target = rng.uniform(*occlusion)
        T_cam_obj = _random_pose(prepared, camera, distance_m, rng)
        alone_px = _pixels_alone(prepared, T_cam_obj, camera)
        if alone_px * (1 - target) < least_visible_px:
            continue
        canvas = _scene(shape, prepared, T_cam_obj, camera, clutter, int(target * alone_px), rng)
        if not _occlude(canvas, prepared, T_cam_obj, alone_px, target, rng):
            continue
        visible_px = int((canvas.label == OBJECT).sum())
        hidden = 1 - visible_px / alone_px
        if visible_px >= least_visible_px and abs(hidden - target) <= OCCLUSION_SLACK:
            noise = replace(noise or DepthNoise(), bias_m=depth_bias_m)
            return _photographed(canvas, T_cam_obj, visible_px / alone_px, noise, mask_mode, rng)
    raise InputError(
        f"no pose of {shape.name!r} out of {_ATTEMPTS} shows {least_visible_px} pixels with the occlusion wanted",
        field="least_visible_px",
        value=least_visible_px,
        expected="fewer pixels, or a nearer object",
        fix="lower least_visible_px, distance_m or occlusion",
    )


@functools.lru_cache(maxsize=128)
def prepared_shape(shape: Shape) -> ViewMesh:
    """The shape ready for drawing; kept, because a shape is photographed many times."""
    return prepare_view(shape.mesh)


def _check_occlusion(occlusion: tuple[float, float]) -> None:
    if not 0 <= occlusion[0] <= occlusion[1] <= 0.8:
        raise InputError(
            f"occlusion is {occlusion}, not a range within 0 to 0.8",
            field="occlusion",
            value=occlusion,
            expected="two numbers from 0 to 0.8, the smaller one first",
            fix="for instance occlusion=(0.0, 0.35)",
        )


def _random_pose(
    prepared: ViewMesh, camera: Camera, distance_m: tuple[float, float], rng: np.random.Generator
) -> Float64[np.ndarray, "4 4"]:
    """Any rotation; the centre of the object's box in the middle of the picture, give or take a fifth of it."""
    R = surroundings.random_rotation(rng)
    pixel = np.array([camera.width, camera.height]) * rng.uniform(0.3, 0.7, 2)
    centre = camera.unproject(pixel, np.array(rng.uniform(*distance_m)))
    return se3.se3(R, centre - R @ prepared.drawable.origin)


def _pixels_alone(prepared: ViewMesh, T_cam_obj: Float[np.ndarray, "4 4"], camera: Camera) -> int:
    drawn = view_in_window(prepared, T_cam_obj, camera, colour=False)
    return 0 if drawn is None else int((drawn[0].depth_m > 0).sum())


def _scene(
    shape: Shape,
    prepared: ViewMesh,
    T_cam_obj: Float[np.ndarray, "4 4"],
    camera: Camera,
    clutter: int,
    most_hidden_px: int,
    rng: np.random.Generator,
) -> Canvas:
    """The object on a support before a wall, with clutter that hides no more of it than allowed."""
    canvas = Canvas(camera)
    tint = np.ones(3) if shape.is_coloured else surroundings.random_tint(rng)
    canvas.add(prepared, T_cam_obj, OBJECT, tint)
    vertices_cam = prepared.drawable.vertices @ T_cam_obj[:3, :3].T + se3.apply(
        T_cam_obj, prepared.drawable.origin[None]
    )
    centre_cam = vertices_cam.mean(axis=0)
    up_cam = np.array([rng.normal(0, 0.2), -rng.uniform(0.4, 1.0), -rng.uniform(0.4, 1.0)])
    up_cam /= np.linalg.norm(up_cam)
    foot_cam = centre_cam + up_cam * ((vertices_cam @ up_cam).min() - centre_cam @ up_cam)
    T_cam_support = surroundings.frame_on_plane(up_cam, foot_cam, rng.uniform(0, 2 * np.pi))
    radius_m = float(np.linalg.norm(np.cross(vertices_cam - foot_cam, up_cam), axis=-1).max())
    add_backdrops(canvas, T_cam_support, rng)
    label, hidden_px = CLUTTER, 0
    for _ in range(clutter):
        body = surroundings.clutter_body(rng)
        for _ in range(4):
            T_cam_body = surroundings.standing(body, T_cam_support, radius_m, rng)
            hides = canvas.would_hide(body.prepared, T_cam_body)
            if T_cam_body[2, 3] > 0.25 and hidden_px + hides <= most_hidden_px:
                hidden_px += hides
                canvas.add(body.prepared, T_cam_body, label, surroundings.random_tint(rng))
                label += 1
                break
    return canvas


def add_backdrops(canvas: Canvas, T_cam_support: Float[np.ndarray, "4 4"], rng: np.random.Generator) -> None:
    """The plane z = 0 of the support, and a wall behind the scene that roughly faces the camera."""
    canvas.add(surroundings.backdrop(rng), T_cam_support, SUPPORT, rng.uniform(0.75, 1.0, 3))
    towards = np.array([rng.normal(0, 0.3), rng.normal(0, 0.15), -1.0])
    behind = np.array([0, 0, T_cam_support[2, 3] + rng.uniform(0.8, 2.5)])
    T_cam_wall = surroundings.frame_on_plane(towards / np.linalg.norm(towards), behind, rng.uniform(0, 2 * np.pi))
    canvas.add(surroundings.backdrop(rng), T_cam_wall, WALL, rng.uniform(0.75, 1.0, 3))


def _occlude(
    canvas: Canvas,
    prepared: ViewMesh,
    T_cam_obj: Float[np.ndarray, "4 4"],
    alone_px: int,
    target: float,
    rng: np.random.Generator,
) -> bool:
    """Push something in front of the object until the share `target` is hidden; False if nothing fits."""
    visible = canvas.label == OBJECT
    missing_px = int(visible.sum() - (1 - target) * alone_px)
    if missing_px <= 0.5 * OCCLUSION_SLACK * alone_px:
        return True
    rows, columns = np.nonzero(visible)
    middle = np.array([columns.mean(), rows.mean()])
    reach_px = float(np.hypot(columns - middle[0], rows - middle[1]).max())
    nearest_m = float(canvas.depth_m[visible].min())
    for _ in range(8):
        depth_m = nearest_m * rng.uniform(0.6, 0.92)
        size_m = reach_px / canvas.camera.fx * depth_m * rng.uniform(0.7, 2.4)
        body = surroundings.occluder_body(rng, size_m)
        R, angle = surroundings.random_rotation(rng), rng.uniform(0, 2 * np.pi)
        aim = middle + rng.normal(0, 0.3 * reach_px, 2)
        if depth_m + body.radius_m > nearest_m:
            depth_m = nearest_m - body.radius_m
        if depth_m < 0.2:
            continue
        far_px = reach_px + body.radius_m / depth_m * canvas.camera.fx
        pose = functools.partial(_beside, canvas.camera, R, aim, angle, depth_m)
        offset_px = _offset_that_hides(canvas, body, pose, missing_px, 1.5 * far_px)
        if abs(canvas.would_hide(body.prepared, pose(offset_px)) - missing_px) <= 0.5 * OCCLUSION_SLACK * alone_px:
            canvas.add(body.prepared, pose(offset_px), OCCLUDER, surroundings.random_tint(rng))
            return True
    return False


def _beside(
    camera: Camera,
    R: Float[np.ndarray, "3 3"],
    aim_px: Float[np.ndarray, " 2"],
    angle: float,
    depth_m: float,
    offset_px: float,
) -> Float64[np.ndarray, "4 4"]:
    """A pose at a depth whose origin is seen `offset_px` away from `aim_px`."""
    pixel = aim_px + offset_px * np.array([np.cos(angle), np.sin(angle)])
    return se3.se3(R, camera.unproject(pixel, np.array(depth_m)))


def _offset_that_hides(
    canvas: Canvas,
    body: surroundings.Body,
    pose: functools.partial[Float64[np.ndarray, "4 4"]],
    wanted_px: int,
    far_px: float,
) -> float:
    """Between 0 and far away: what is hidden grows, with few exceptions, on the way in."""
    near, far = 0.0, far_px
    for _ in range(9):
        middle = (near + far) / 2
        if canvas.would_hide(body.prepared, pose(middle)) > wanted_px:
            near = middle
        else:
            far = middle
    return far


def _photographed(
    canvas: Canvas,
    T_cam_obj: Float64[np.ndarray, "4 4"],
    visible_fraction: float,
    noise: DepthNoise,
    mask_mode: MaskMode,
    rng: np.random.Generator,
) -> Trial:
    light = random_light(rng)
    return Trial(
        rgb=photograph(canvas.albedo, canvas.normal_cam, light, rng),
        depth_m=measured_depth(canvas.depth_m, canvas.normal_cam, canvas.camera, rng, noise),
        mask=make_mask(canvas.label, rng, mask_mode),
        camera=canvas.camera,
        T_cam_obj=T_cam_obj,
        visible_fraction=visible_fraction,
        true_visible_mask=canvas.label == OBJECT,
        true_depth_m=canvas.depth_m,
        drawn=tuple(canvas.drawn),
        light=light,
        noise=noise,
    )
