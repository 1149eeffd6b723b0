import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gnomon.errors import InputError
from gnomon.geometry.camera import Camera

CAMERA = Camera(fx=600.0, fy=580.0, cx=319.5, cy=239.5, width=640, height=480)

sizes = st.integers(1, 4000)
focals = st.floats(1.0, 1e4)
centres = st.floats(-1e3, 5e3)
cameras = st.builds(Camera, focals, focals, centres, centres, sizes, sizes)
pixels = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)).map(np.array)
depths = st.floats(1e-3, 1e3)


@given(cameras, pixels, depths)
def test_projecting_an_unprojected_pixel_returns_it(camera, pixel, depth_m):
    point = camera.unproject(pixel, np.array(depth_m))
    assert point[2] == depth_m
    np.testing.assert_allclose(camera.project(point), pixel, rtol=1e-9, atol=1e-7)


@given(cameras, pixels, depths)
def test_project_agrees_with_the_matrix(camera, pixel, depth_m):
    point = camera.unproject(pixel, np.array(depth_m))
    homogeneous = camera.K @ point
    np.testing.assert_allclose(homogeneous[:2] / homogeneous[2], pixel, rtol=1e-9, atol=1e-7)


def test_the_pixel_convention_in_numbers():
    # One metre away, the optical axis meets cx, cy; half a metre to the right lies 300 pixels further.
    np.testing.assert_allclose(CAMERA.project(np.array([[0.0, 0, 1], [0.5, 0, 1]])), [[319.5, 239.5], [619.5, 239.5]])


def test_points_behind_the_camera_have_no_pixel():
    projected = CAMERA.project(np.array([[0.1, 0.2, -1.0], [0.1, 0.2, 0.0], [0.0, 0.0, 2.0]]))
    assert np.isnan(projected[:2]).all()
    np.testing.assert_array_equal(projected[2], [319.5, 239.5])


def test_rays_times_depth_are_the_unprojected_image():
    camera = Camera(50.0, 55.0, 3.2, 2.1, 8, 5)
    depth_m = np.linspace(0.5, 2.0, 40).reshape(5, 8)
    points = camera.rays() * depth_m[..., None]
    v, u = np.mgrid[:5, :8]
    np.testing.assert_allclose(camera.project(points), np.stack([u, v], axis=-1), atol=1e-12)
    np.testing.assert_array_equal(points[..., 2], depth_m)


def test_unproject_spreads_one_depth_over_many_pixels():
    points = CAMERA.unproject(np.zeros((7, 2)), np.array([2.0]))
    assert points.shape == (7, 3)
    assert (points[:, 2] == 2.0).all()


@given(cameras)
def test_K_round_trip(camera):
    assert Camera.from_K(camera.K, camera.width, camera.height) == camera


@given(cameras)
def test_corner_convention_round_trip(camera):
    back = Camera.from_corner_K(camera.corner_K, camera.width, camera.height)
    np.testing.assert_allclose(back.K, camera.K, rtol=1e-14, atol=1e-12)


def test_the_corner_convention_is_half_a_pixel_larger():
    # The middle of 640 pixels is 320 counted from the corner and 319.5 from the first pixel's centre.
    corner_K = np.array([[600.0, 0, 320], [0, 580, 240], [0, 0, 1]])
    assert Camera.from_corner_K(corner_K, 640, 480) == CAMERA
    np.testing.assert_array_equal(CAMERA.corner_K, corner_K)


# --- scaling and cropping, against images that are resampled for real


def slope_image(camera: Camera) -> np.ndarray:
    """An image of x/z + 2 y/z, linear in the pixel, so that area averages stay exact."""
    rays = camera.rays()
    return rays[..., 0] + 2 * rays[..., 1]


@pytest.mark.parametrize("shrink", [2, 3, 5])
def test_a_scaled_camera_sees_what_block_averaging_makes(shrink):
    camera = Camera(35.0, 32.0, 11.3, 17.9, 6 * 5, 12 * 5)
    image = slope_image(camera)
    blocks = image.reshape(camera.height // shrink, shrink, camera.width // shrink, shrink).mean(axis=(1, 3))
    small = camera.scaled(1 / shrink)
    assert (small.width, small.height) == (camera.width // shrink, camera.height // shrink)
    np.testing.assert_allclose(slope_image(small), blocks, atol=1e-12)


# Shrinking, Pillow's filter weights are sampled and keep a slope only to about 0.03 pixels.
@pytest.mark.parametrize(("size", "atol"), [((64, 96), 2e-5), ((37, 53), 2e-5), ((11, 23), 4e-3)])
def test_a_resized_camera_agrees_with_pillow(size, atol):
    camera = Camera(35.0, 32.0, 11.3, 17.9, 32, 48)
    resized = camera.resized(*size)
    picture = Image.fromarray(slope_image(camera).astype(np.float32))
    resampled = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    # At the border the filter's support is cut off and the linear pattern is no longer reproduced.
    inside = (slice(size[1] // 6, -size[1] // 6), slice(size[0] // 6, -size[0] // 6))
    np.testing.assert_allclose(resampled[inside], slope_image(resized)[inside], rtol=0, atol=atol)


@given(cameras, st.floats(0.05, 20.0))
def test_scaling_keeps_the_corners_of_the_image(camera, factor):
    scaled = camera.scaled(factor)
    corner = np.array([camera.width - 0.5, camera.height - 0.5])
    scaled_corner = np.array([scaled.width - 0.5, scaled.height - 0.5])
    for before, after in ((np.array([-0.5, -0.5]), np.array([-0.5, -0.5])), (corner, scaled_corner)):
        np.testing.assert_allclose(
            scaled.unproject(after, np.array(1.0)),
            camera.unproject(before, np.array(1.0)),
            rtol=1e-9,
            atol=1e-9,
        )


def test_a_size_that_does_not_divide_follows_the_rounded_size():
    third = Camera(100.0, 100.0, 4.5, 4.5, 10, 10).scaled(1 / 3)
    assert (third.width, third.height) == (3, 3)
    assert third.fx == pytest.approx(30.0)
    assert third.cx == pytest.approx(1.0)


@settings(max_examples=30)
@given(st.integers(0, 20), st.integers(0, 10), st.integers(1, 12), st.integers(1, 20))
def test_a_cropped_camera_sees_the_slice(left, top, width, height):
    camera = Camera(35.0, 32.0, 11.3, 17.9, 32, 30)
    window = camera.cropped(left, top, width, height)
    expected = slope_image(camera)[top : top + height, left : left + width]
    np.testing.assert_allclose(slope_image(window), expected, atol=1e-12)


def test_a_crop_may_reach_beyond_the_image():
    assert CAMERA.cropped(-10, -20, 700, 600) == Camera(600.0, 580.0, 329.5, 259.5, 700, 600)


# --- refusals


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("fx", 0.0),
        ("fy", -1.0),
        ("fx", math.nan),
        ("cx", math.inf),
        ("width", 0),
        ("height", -480),
    ],
)
def test_an_impossible_camera_names_its_field(field, wrong):
    with pytest.raises(InputError) as caught:
        Camera(**(vars(CAMERA) | {field: wrong}))
    assert (caught.value.code, caught.value.field) == ("camera_invalid", field)


@pytest.mark.parametrize(
    "K",
    [
        np.array([[600.0, 1e-3, 320], [0, 600, 240], [0, 0, 1]]),
        np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 2]]),
        np.array([[600.0, 0, 320], [0, 600, 240], [1, 0, 1]]),
    ],
)
def test_a_matrix_that_is_no_pinhole_is_refused(K):
    with pytest.raises(InputError) as caught:
        Camera.from_K(K, 640, 480)
    assert (caught.value.code, caught.value.field) == ("camera_invalid", "K")


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_senseless_scale_is_refused(factor):
    with pytest.raises(InputError):
        CAMERA.scaled(factor)
