"""The picture's own colours tell the object's pixels from those around it."""

from __future__ import annotations

import numpy as np
from known_objects import CAMERA, pose, prepared
from known_objects import look as seen_by_camera

from gnomon.geometry import se3
from gnomon.tasks.object_pose.methods.render_compare import look
from gnomon.tasks.object_pose.methods.render_compare.observation import crop_around, observe
from gnomon.tasks.synthetic.shapes import make_shape

T = pose((0.3, 0.8, 1.5), (-0.01, 0.01, 0.55))


def test_the_objects_colour_speaks_for_the_true_outline_and_less_when_hidden() -> None:
    model = prepared("bracket")
    picture = seen_by_camera(make_shape("bracket").mesh, T)
    rng = np.random.default_rng(0)
    colours = np.where(picture.mask[..., None], np.array([190, 120, 110]), np.array([90, 110, 150]))
    rgb = np.clip(colours + rng.normal(0, 4, colours.shape), 0, 255).astype(np.uint8)
    crop = crop_around(picture.mask, picture.depth_m, CAMERA, model.diameter_m, 96)
    seen = observe(rgb, picture.depth_m, picture.mask, CAMERA, crop, use_colour=False)
    odds = look.likeness(rgb, crop, seen)
    assert np.median(odds[seen.mask == 2]) == np.float32(look.MOST)
    assert np.median(odds[(seen.mask == 0) & (seen.mask_distance > 3) & (odds != 0)]) == -np.float32(look.MOST)
    assert (odds[seen.mask_distance > look.AROUND * crop.size] == 0).all()

    R, t = T[:3, :3], se3.apply(T, model.centre[None])[0]
    turned = R @ se3.so3_exp(np.array([0.0, 0.0, 0.4]))
    right, shifted, other = look.gains(
        model, seen, odds, np.stack([R, R, turned]), np.stack([t, t + np.array([0.01, 0, 0]), t])
    )
    assert right > 0.9 * look.MOST
    assert max(shifted, other) < right - 0.1
    # What stands before everything else hides it: nothing is said.
    near = seen.surface.copy()
    near[..., 0] = 0.2
    assert look.gains(model, seen._replace(surface=near), odds, R[None], t[None])[0] == 0


def test_too_few_pixels_say_nothing() -> None:
    model = prepared("bracket")
    picture = seen_by_camera(make_shape("bracket").mesh, T)
    crop = crop_around(picture.mask, picture.depth_m, CAMERA, model.diameter_m, 96)
    seen = observe(*picture, CAMERA, crop, use_colour=False)
    assert not look.likeness(picture.rgb, crop, seen._replace(mask=np.zeros_like(seen.mask))).any()
