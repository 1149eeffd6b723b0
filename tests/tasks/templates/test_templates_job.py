"""`templates` as a job: files by contract, batches, cache, kills, and every kind of bad input."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from waiting import until

import gnomon
from gnomon import api
from gnomon.api import Home, Job
from gnomon.errors import InputError, MissingError
from gnomon.job import Reason, State

LIMIT_S = 120.0

CUBE = [(x, y, z) for x in (-20, 20) for y in (-30, 30) for z in (-40, 40)]
CUBE_FACES = [
    (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
    (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
]  # fmt: skip


def write_obj(path: Path, scale: float = 1.0, header: str = "", faces=CUBE_FACES) -> Path:
    lines = [header] if header else []
    lines += [f"v {x * scale} {y * scale} {z * scale}" for x, y, z in CUBE]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return write_obj(tmp_path / "cube.obj")


def small(mesh, **options) -> gnomon.Templates:
    return gnomon.Templates.parse(mesh=mesh, size=options.pop("size", 64), **options)


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("result.json", "report.html")
    }


def run_one(home: Home, mesh, **options) -> Job:
    job = home.submit(small(mesh, **options))
    assert job.wait(timeout_s=LIMIT_S).state is State.SUCCEEDED
    return job


def test_a_set_has_the_files_of_the_contract(home: Home, cube: Path):
    job = home.submit(gnomon.Templates.parse(mesh=str(cube)))
    result = job.result(timeout_s=LIMIT_S)
    (made,) = result.sets
    assert (made.views, made.triangles, made.templates_dir) == (42, 12, "templates")
    templates = result.root / "templates"
    names = {f"{kind}_{i}.{end}" for i in range(42) for kind, end in (("rgb", "png"), ("mask", "png"), ("xyz", "npy"))}
    assert {path.name for path in templates.iterdir()} == names
    for i in (0, 17, 41):
        rgb, mask = Image.open(templates / f"rgb_{i}.png"), Image.open(templates / f"mask_{i}.png")
        xyz = np.load(templates / f"xyz_{i}.npy")
        assert (rgb.mode, rgb.size, mask.mode, mask.size) == ("RGB", (512, 512), "L", (512, 512))
        on = np.asarray(mask) == 255
        assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert (xyz.dtype, xyz.shape, xyz.flags.c_contiguous) == (np.float16, (512, 512, 3), True)
        assert (xyz[~on] == -1).all()
        assert abs(np.abs(xyz[on].astype(float)).max(axis=0) - (20, 30, 40)).max() < 0.6
        assert abs(np.asarray(rgb)[0, 0].astype(int) - 63).max() <= 1


def test_the_manifest_reprojects_every_coordinate_to_its_pixel(home: Home, cube: Path):
    job = run_one(home, str(cube), size=128)
    manifest = json.loads((job.results / "templates.json").read_text())
    K = np.array(manifest["K"])
    for i, T_cam_obj in enumerate(np.array(manifest["T_cam_obj"])):
        xyz = np.load(job.results / "templates" / f"xyz_{i}.npy").astype(float)
        mask = np.asarray(Image.open(job.results / "templates" / f"mask_{i}.png")) == 255
        v, u = np.nonzero(mask)
        points = xyz[v, u] @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
        pixels = points @ K.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        assert np.abs(pixels - np.column_stack([u, v])).max() < 0.5


def test_no_array_but_the_coordinates_lies_with_the_templates(home: Home, cube: Path):
    job = run_one(home, str(cube), depth=True, normals=True, bundle="npz")
    assert len(list((job.results / "templates").glob("*.npy"))) == 42
    assert len(list((job.results / "depth").glob("*.npy"))) == 42
    assert len(list((job.results / "normals").glob("*.npy"))) == 42
    bundle = np.load(job.results / "templates.npz")
    np.testing.assert_array_equal(bundle["xyz"][7], np.load(job.results / "templates" / "xyz_7.npy"))
    assert bundle["depth"].shape == (42, 64, 64)


def test_an_hdf5_bundle_holds_the_same(home: Home, cube: Path):
    h5py = pytest.importorskip("h5py")
    job = run_one(home, str(cube), bundle="hdf5")
    with h5py.File(job.results / "templates.h5") as bundle:
        np.testing.assert_array_equal(bundle["mask"][3], Image.open(job.results / "templates" / "mask_3.png"))


def test_the_flat_layout_has_the_pictures_on_top(home: Home, cube: Path):
    job = run_one(home, str(cube), layout="flat")
    assert (job.results / "rgb_0.png").exists()
    assert len(list(job.results.glob("*.npy"))) == 42
    with pytest.raises(InputError) as error:
        small(str(cube), layout="flat", depth=True)
    assert error.value.code == "field_invalid"


def test_a_transparent_set_has_an_alpha_channel(home: Home, cube: Path):
    job = run_one(home, str(cube), transparent=True)
    rgba = np.asarray(Image.open(job.results / "templates" / "rgb_5.png"))
    mask = np.asarray(Image.open(job.results / "templates" / "mask_5.png"))
    assert rgba.shape == (64, 64, 4)
    assert rgba[0, 0, 3] == 0
    assert (rgba[..., 3][mask == 255] > 0).all()


def test_own_poses_decide_the_views(home: Home, cube: Path, tmp_path: Path):
    from gnomon.tasks.templates.views import view_poses

    poses = view_poses(0)[[3, 8, 20]].copy()
    poses[:, :3, 3] *= 1000
    np.save(tmp_path / "poses.npy", poses)
    own = run_one(home, str(cube), camera_poses=str(tmp_path / "poses.npy"))
    whole = run_one(home, str(cube))
    assert len(list((own.results / "templates").glob("rgb_*.png"))) == 3
    for place, index in enumerate((3, 8, 20)):
        np.testing.assert_array_equal(
            np.load(own.results / "templates" / f"xyz_{place}.npy"),
            np.load(whole.results / "templates" / f"xyz_{index}.npy"),
        )


def test_the_same_request_gives_the_same_bytes_and_comes_from_the_cache(home: Home, cube: Path, monkeypatch, tmp_path):
    first = run_one(home, str(cube))
    again = run_one(home, str(cube))
    assert again.result().sets[0].cached
    assert not first.result().sets[0].cached
    monkeypatch.setenv("GNOMON_CACHE", str(tmp_path / "another cache"))
    anew = run_one(home, str(cube))
    assert not anew.result().sets[0].cached
    assert digest(first.results) == digest(again.results) == digest(anew.results)


def test_other_content_or_options_are_not_taken_from_the_cache(home: Home, cube: Path):
    run_one(home, str(cube))
    assert not run_one(home, str(cube), colorize=True).result().sets[0].cached
    write_obj(cube, scale=1.1)
    assert not run_one(home, str(cube)).result().sets[0].cached


def test_one_bad_mesh_of_many_fails_alone(home: Home, cube: Path, tmp_path: Path):
    (tmp_path / "bad.obj").write_text("v 0 0 0\nv 1 0 0\n")
    other = tmp_path / "other"
    other.mkdir()
    write_obj(other / "cube.obj", scale=0.5)
    job = home.submit(small([str(cube), str(tmp_path / "bad.obj"), str(other / "cube.obj")]))
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason) == (State.SUCCEEDED, Reason.ITEMS_FAILED)
    result = job.result()
    assert [item.name for item in result.succeeded] == ["cube", "cube-2"]
    assert [item.error["code"] for item in result.failed] == ["mesh_no_faces"]
    assert not (job.results / "bad").exists()
    assert "mesh_no_faces" in (job.results / "report.html").read_text()
    for name in ("cube", "cube-2"):
        assert len(list((job.results / name / "templates").iterdir())) == 126


def test_meshes_that_are_all_bad_fail_the_job(home: Home, tmp_path: Path):
    (tmp_path / "bad.obj").write_text("v 0 0 0\n")
    job = home.submit(small([str(tmp_path / "bad.obj")] * 2))
    assert job.wait(timeout_s=LIMIT_S).reason is Reason.BAD_INPUT
    assert not job.results.exists()


@pytest.mark.parametrize(
    ("scale", "unit", "question"),
    [(1.0, "m", 'did you mean "mm"'), (0.001, "mm", 'did you mean "cm", "m"')],
)
def test_a_wrong_unit_is_asked_about(home: Home, tmp_path: Path, scale, unit, question):
    mesh = write_obj(tmp_path / "cup.obj", scale=scale)
    job = home.submit(small(str(mesh), mesh_unit=unit))
    status = job.wait(timeout_s=LIMIT_S)
    error = api.error_of(status)
    assert error.code == "unit_implausible"
    assert question in error.message
    assert not job.results.exists()
    assert run_one(home, str(mesh), mesh_unit=unit, allow_any_size=True).result().sets[0].views == 42


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.zeros((3, 3)), "poses_bad_shape"),
        (np.zeros((2, 4, 4)), "poses_not_rigid"),
        (None, "poses_unreadable"),
    ],
)
def test_bad_poses_are_named(home: Home, cube: Path, tmp_path: Path, array, code):
    path = tmp_path / "poses.npy"
    if array is None:
        path.write_text("no array")
    else:
        np.save(path, array)
    job = home.submit(small(str(cube), camera_poses=str(path)))
    assert (job.wait(timeout_s=LIMIT_S).error or {})["code"] == code


def test_a_full_disk_is_named_and_nothing_half_written_is_seen(home: Home, cube: Path, tmp_path: Path, monkeypatch):
    import errno

    from gnomon.tasks.templates import files
    from gnomon.tasks.templates.make import make_set

    written = []

    def save(path: Path, array: np.ndarray) -> None:
        written.append(path)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(array.tobytes())

    monkeypatch.setattr(files.np, "save", save)
    from gnomon.tasks.templates.views import view_poses

    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space"):
        make_set(
            cube,
            tmp_path / "out",
            small(str(cube)),
            view_poses(0),
            threads=2,
            cache_root=tmp_path,
            on_view=lambda: None,
        )
    assert not (tmp_path / "out" / "templates.json").exists()


def test_a_worker_killed_while_it_draws_leaves_nothing_and_the_retry_delivers(home: Home, cube: Path, tmp_path: Path):
    spec = gnomon.Templates.parse(mesh=str(cube), size=768, views=1)
    job = home.submit(spec)
    attempt = job.directory.attempt(1)
    until(lambda: list(attempt.out.glob(".set.part/templates/rgb_*.png")), "the first view")
    supervisor = psutil.Process((attempt.process() or {})["pid"])
    worker = supervisor.children()[0]
    worker.send_signal(signal.SIGKILL)
    assert not job.results.exists()
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.attempt) == (State.SUCCEEDED, 2)
    assert len(list((job.results / "templates").iterdir())) == 3 * 162
    assert not list(job.results.glob(".*"))


def test_a_batch_goes_on_with_the_meshes_that_were_not_done(home: Home, tmp_path: Path):
    meshes = [str(write_obj(tmp_path / f"m{i}.obj", scale=1 + i / 10)) for i in range(6)]
    job = home.submit(small(meshes, size=256), resources=gnomon.Resources(cpus=1, mem_gb=2))
    attempt = job.directory.attempt(1)
    until(lambda: len(list(attempt.steps.glob("*.json"))) >= 2, "two finished meshes")
    with contextlib.suppress(psutil.Error):
        psutil.Process((attempt.process() or {})["pid"]).children()[0].kill()
    status = job.wait(timeout_s=LIMIT_S)
    assert status.state is State.SUCCEEDED
    assert len(job.result().succeeded) == 6


def test_textures_travel_with_an_obj(home: Home, tmp_path: Path):
    folder = tmp_path / "asset"
    (folder / "maps").mkdir(parents=True)
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "maps" / "red.png")
    (folder / "cube.mtl").write_text("newmtl red\nKd 1 1 1\nmap_Kd maps/red.png\n")
    lines = ["mtllib cube.mtl", "usemtl red", *(f"v {x} {y} {z}" for x, y, z in CUBE), "vt 0.5 0.5"]
    lines += [f"f {a + 1}/1 {b + 1}/1 {c + 1}/1" for a, b, c in CUBE_FACES]
    (folder / "cube.obj").write_text("\n".join(lines) + "\n")
    job = run_one(home, str(folder / "cube.obj"))
    assert {file.name for file in job.request().inputs} == {
        "mesh/0000/cube.obj",
        "mesh/0000/cube.mtl",
        "mesh/0000/maps/red.png",
    }
    rgb = np.asarray(Image.open(job.results / "templates" / "rgb_20.png")).astype(int)
    mask = np.asarray(Image.open(job.results / "templates" / "mask_20.png")) == 255
    red = rgb[mask].mean(axis=0)
    assert red[0] > red[1] + 30
    assert red[0] > red[2] + 30


def test_unknown_fields_and_methods_are_named(cube: Path):
    with pytest.raises(InputError) as error:
        gnomon.Templates.parse(mesh=str(cube), colour=True)
    assert error.value.code == "field_unknown"
    assert "colorize" in str(error.value.expected)
    with pytest.raises(InputError) as error:
        gnomon.Templates.parse(mesh=str(cube), size=7)
    assert (error.value.code, error.value.field, error.value.value) == ("field_invalid", "size", 7)
    with pytest.raises(InputError) as error:
        gnomon.Templates.parse()
    assert error.value.code == "field_missing"


def test_blender_without_its_environment_says_how_to_get_it(home: Home, cube: Path):
    with pytest.raises(MissingError) as error:
        home.submit(small(str(cube), method="blender"))
    assert error.value.fix == "gnomon methods install blender"


def test_run_delivers_into_a_folder(cube: Path, tmp_path: Path):
    result = gnomon.run(small(str(cube)), out=tmp_path / "out")
    assert result.sets[0].views == 42
    assert (tmp_path / "out" / "templates" / "rgb_41.png").exists()
    assert (tmp_path / "out" / "report.html").exists()
