"""The Render Server's API over real HTTP: requests, records and files as its clients know them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rendering import RenderServer, save_poses, start_render_server

EXAMPLES = Path(__file__).parents[2] / "examples"

ENDED = {
    "job_id": str, "status": str, "cad_path": str, "output_dir": str, "templates_dir": str, "created_at": float,
    "started_at": float, "cmd": str, "log_path": str, "pid": int, "returncode": int, "ended_at": float,
    "elapsed_sec": float,
}  # fmt: skip


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RenderServer]:
    found = start_render_server(tmp_path_factory.mktemp("render"), "--max-triangles", "1000000")
    yield found
    found.server.stop()


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def template_names(count: int) -> set[str]:
    kinds = (("rgb", "png"), ("mask", "png"), ("xyz", "npy"))
    return {f"{kind}_{index}.{ending}" for index in range(count) for kind, ending in kinds}


def picture(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None, path
    return found


# The simple API


def test_health_and_status(render: RenderServer):
    health = render.get("/health").json()
    assert abs(health.pop("timestamp") - time.time()) < 60
    assert health == {"status": "healthy", "message": "Render Server is running"}
    status = render.get("/api/v1/status").json()
    assert 0 < status.pop("uptime") < 3600
    assert status == {"server": "running", "renderer_ready": True, "version": "1.0.0"}


def test_swagger_names_every_route(render: RenderServer):
    assert "swagger-ui" in render.get("/docs").text
    assert set(render.get("/openapi.json").json()["paths"]) == {
        "/health",
        "/api/v1/status",
        "/render/templates",
        "/jobs/{job_id}",
        "/api/v1/render-templates",
        "/api/v1/render-templates-batch",
    }


def test_a_waiting_client_gets_the_whole_record(render: RenderServer):
    before = time.time()
    answer = render.post("/render/templates", render.order("sync"), wait="yes", wait_timeout_sec=600)
    assert answer.status_code == 200
    record = answer.json()
    assert {name: type(value) for name, value in record.items()} == ENDED, record
    assert record["status"] == "succeeded" and record["returncode"] == 0
    assert record["cad_path"] == render.mug and record["output_dir"] == str(render.root / "sync")
    assert record["templates_dir"] == str(render.root / "sync" / "templates")
    assert before <= record["created_at"] <= record["started_at"] + 0.001 <= record["ended_at"] <= time.time()
    assert record["elapsed_sec"] == round(record["ended_at"] - record["started_at"], 3)
    assert "gnomon.worker" in record["cmd"] and record["pid"] != render.server.process.pid
    assert str(uuid.UUID(record["job_id"])) == record["job_id"]
    assert render.get(f"/jobs/{record['job_id']}").json() == record


def test_the_files_are_what_consumers_read(render: RenderServer):
    record = render.post("/render/templates", render.order("consumer"), wait=True).json()
    folder = Path(record["templates_dir"])
    assert names_of(folder) == template_names(42)
    assert names_of(folder.parent) == {"templates", "gnomon_templates.json"}
    for index in range(42):
        mask = picture(folder / f"mask_{index}.png")
        rgb = picture(folder / f"rgb_{index}.png")
        xyz = np.load(folder / f"xyz_{index}.npy")
        assert mask.shape == (512, 512) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
        assert rgb.shape == (512, 512, 3) and rgb.dtype == np.uint8
        assert xyz.shape == (512, 512, 3) and xyz.dtype == np.float16
        assert (xyz[mask == 0] == -1).all()
        # Millimetres of the file, not normalised.
        assert 20 < np.abs(xyz[mask == 255]).max() < 500
    manifest = json.loads((folder.parent / "gnomon_templates.json").read_text())
    assert manifest["views"] == len(manifest["T_cam_obj"]) == 42
    assert set(manifest["files"]) == {f"templates/{name}" for name in template_names(42)}


def test_a_client_that_does_not_wait_asks_for_the_record(render: RenderServer):
    answer = render.post("/render/templates", render.order("async"))
    assert answer.status_code == 200
    queued = answer.json()
    assert queued == {"job_id": queued["job_id"], "status": "queued"}
    seen = render.get(f"/jobs/{queued['job_id']}").json()
    assert seen["status"] in ("queued", "running", "succeeded") and seen["created_at"] > 0
    record = render.ended(queued["job_id"])
    assert record["status"] == "succeeded"
    assert names_of(Path(record["templates_dir"])) == template_names(42)


def test_the_time_to_wait_can_be_over_while_the_job_goes_on(render: RenderServer):
    order = render.order("late", base_color=0.07)
    answer = render.post("/render/templates", order, wait=True, wait_timeout_sec=0)
    assert answer.status_code == 200
    record = answer.json()
    assert record["status"] == "timeout" and "returncode" not in record
    assert record["elapsed_sec"] >= 0 and record["ended_at"] >= record["created_at"]
    done = render.ended(record["job_id"])
    assert done["status"] == "succeeded" and done["returncode"] == 0 and done["ended_at"] > record["ended_at"]


@pytest.mark.parametrize("seconds", ["-1", "86401", "soon"])
def test_the_time_to_wait_is_bounded(render: RenderServer, seconds: str):
    answer = render.post("/render/templates", render.order("x"), wait=True, wait_timeout_sec=seconds)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "wait_timeout_sec"]


def test_wrong_bodies_get_fastapis_answers(render: RenderServer):
    answer = render.post("/render/templates", {"cad_path": render.mug})
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["type"] == "missing" and detail["loc"] == ["body", "output_dir"]
    with render.client() as client:
        nan = client.post("/render/templates", content='{"cad_path": "/x", "output_dir": "/x", "base_color": NaN}')
        assert nan.status_code == 422 and nan.json()["detail"][0]["loc"] == ["body", "base_color"]
        broken = client.post("/render/templates", content="{")
        assert broken.status_code == 422 and broken.json()["detail"][0]["type"] == "json_invalid"
    assert render.post("/render/templates", render.order("extra", wanted="x", base_color=2)).status_code == 422


STRANGER = "0b9f6c5e-7d1a-4c7e-9a53-2f3f6f0f8a11"


@pytest.mark.parametrize("name", [STRANGER, STRANGER.upper(), "x", "..%2Forders%2Fx", "%00"])
def test_unknown_jobs(render: RenderServer, name: str):
    answer = render.get(f"/jobs/{name}")
    assert answer.status_code == 404
    assert answer.json()["detail"] in ("job not found", "Not Found")


def test_a_job_of_gnomon_is_none_of_the_render_servers(render: RenderServer):
    record = render.post("/render/templates", render.order("ids"), wait=True).json()
    with render.server.client() as client:
        newest = client.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]
    assert newest["state"] == "succeeded" and newest["id"] != record["job_id"]
    assert render.get(f"/jobs/{newest['id']}").status_code == 404


# Failures


def test_a_missing_mesh_fails_as_a_job_and_says_why(render: RenderServer):
    order = {"cad_path": str(render.root / "none.ply"), "output_dir": str(render.root / "none")}
    record = render.post("/render/templates", order, wait=True).json()
    assert record["status"] == "failed" and record["returncode"] == -1
    assert record["error"].startswith("CAD file not found or invalid format: ")
    assert record["error"] in Path(record["log_path"]).read_text()
    queued = render.post("/render/templates", order).json()
    assert queued["status"] == "queued"
    assert render.ended(queued["job_id"])["error"] == record["error"]
    answer = render.post("/api/v1/render-templates", order)
    assert answer.status_code == 404
    assert answer.json()["success"] is False and answer.json()["error_message"] == record["error"]


def test_a_damaged_mesh_is_a_failure_with_its_reason(render: RenderServer):
    (render.root / "damaged.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\nx\n")
    order = {"cad_path": str(render.root / "damaged.ply"), "output_dir": str(render.root / "damaged")}
    answer = render.post("/api/v1/render-templates", order)
    assert answer.status_code == 400
    body = answer.json()
    assert body["error_message"].startswith("CAD file not found or invalid format: ") and body["rendered_count"] == 0
    record = render.post("/render/templates", order, wait=True).json()
    assert record["status"] == "failed" and record["returncode"] > 0
    log = Path(record["log_path"]).read_text()
    assert "failed (bad_input)" in log and record["error"] in log


def test_a_mesh_with_too_many_triangles_is_refused_by_its_header(render: RenderServer):
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    header += "property float z\nelement face 1000001\nproperty list uchar int vertex_indices\nend_header\n"
    (render.root / "huge.ply").write_text(header)
    order = {"cad_path": str(render.root / "huge.ply"), "output_dir": str(render.root / "huge")}
    answer = render.post("/api/v1/render-templates", order)
    assert answer.status_code == 400
    assert "1,000,001 triangles; the limit is 1,000,000" in answer.json()["error_message"]


def test_a_pipe_with_a_meshs_name_holds_nobody_up(render: RenderServer):
    os.mkfifo(render.root / "pipe.ply")
    order = {"cad_path": str(render.root / "pipe.ply"), "output_dir": str(render.root / "pipe")}
    assert render.post("/api/v1/render-templates", order).status_code == 404


def test_an_output_folder_that_cannot_be_made_fails_at_once(render: RenderServer):
    (render.root / "in-the-way").write_text("mine")
    order = render.order("in-the-way/out")
    record = render.post("/render/templates", order, wait=True).json()
    assert record["status"] == "failed" and "nothing can be written" in record["error"]
    assert render.post("/api/v1/render-templates", order).status_code == 400
    assert (render.root / "in-the-way").read_text() == "mine"


def test_a_delivery_that_fails_is_a_failed_job(render: RenderServer):
    (render.root / "blocked").mkdir()
    (render.root / "blocked" / "templates").write_text("mine")
    record = render.post("/render/templates", render.order("blocked"), wait=True).json()
    assert record["status"] == "failed" and "could not be put into" in record["error"]
    assert names_of(render.root / "blocked") == {"templates", "gnomon_templates.json"}
    assert (render.root / "blocked" / "templates").read_text() == "mine"


def test_method_blender_says_that_it_is_not_there(render: RenderServer):
    answer = render.post("/api/v1/render-templates", render.order("blender", method="blender"))
    assert answer.status_code == 500
    assert answer.json()["error_message"].startswith("Failed to initialize BlenderProc: ")


# The documented API


def test_the_documented_answer(render: RenderServer):
    answer = render.post("/api/v1/render-templates", render.order("v1", colorize=True, base_color=0.3))
    assert answer.status_code == 200
    body = answer.json()
    assert isinstance(body.pop("rendering_time"), float) and uuid.UUID(body.pop("job_id"))
    target = str(render.root / "v1" / "templates")
    assert body == {
        "success": True,
        "total_poses": 42,
        "rendered_count": 42,
        "output_dir": target,
        "templates_dir": target,
        "cad_path": render.mug,
        "normalize": True,
        "colorize": True,
        "base_color": 0.3,
    }
    rgb = picture(Path(target) / "rgb_0.png")
    assert (np.ptp(rgb.astype(int), axis=2) <= 1).all(), "grey"


def test_own_poses(render: RenderServer):
    poses = save_poses(render.root / "poses.npy", 3)
    body = render.post("/api/v1/render-templates", render.order("own", camera_poses_path=poses)).json()
    assert body["success"] and body["total_poses"] == body["rendered_count"] == 3
    assert names_of(Path(body["output_dir"])) == template_names(3)
    (render.root / "bad.npy").write_bytes(b"no array")
    bad = render.order("own", camera_poses_path=str(render.root / "bad.npy"))
    assert render.post("/api/v1/render-templates", bad).status_code == 400
    gone = render.order("own", camera_poses_path=str(render.root / "gone.npy"))
    assert render.post("/api/v1/render-templates", gone).status_code == 400


@pytest.mark.parametrize("form", ["items", "bare"])
def test_a_batch_goes_on_after_a_failure(render: RenderServer, form: str):
    bodies = [
        render.order(f"batch-{form}-0"),
        {"cad_path": str(render.root / "none.stl"), "output_dir": str(render.root / f"batch-{form}-1")},
        {"cad_path": "/etc/passwd", "output_dir": str(render.root / f"batch-{form}-2")},
        render.order(f"batch-{form}-3"),
        render.order(f"batch-{form}-0/"),
    ]
    answer = render.post("/api/v1/render-templates-batch", {"items": bodies} if form == "items" else bodies)
    assert answer.status_code == 200
    body = answer.json()
    assert {name: body[name] for name in ("success", "total", "succeeded", "failed")} == {
        "success": False,
        "total": 5,
        "succeeded": 2,
        "failed": 3,
    }
    assert [item["success"] for item in body["results"]] == [True, False, False, True, False]
    assert "another item" in body["results"][4]["error_message"]
    assert names_of(render.root / f"batch-{form}-3" / "templates") == template_names(42)


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_is_bounded(render: RenderServer, count: int):
    bodies = [render.order(f"many-{index}") for index in range(count)]
    assert render.post("/api/v1/render-templates-batch", bodies).status_code == 422
    assert render.post("/api/v1/render-templates-batch", {"items": bodies}).status_code == 422


# Where files come from and go to


def test_the_same_name_with_another_ending_is_looked_for(render: RenderServer):
    (render.root / "cube.obj").write_text("v 0 0 0\nv 50 0 0\nv 0 50 0\nv 0 0 50\nf 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n")
    (render.root / "cube.stl").write_text("not read")
    for name in ("cube", "cube.step"):
        body = render.post("/api/v1/render-templates", render.order("cube", cad_path=str(render.root / name))).json()
        assert body["success"], body
    assert render.post("/api/v1/render-templates", render.order("mug", cad_path=str(render.root / "mug"))).json()[
        "success"
    ]


def test_the_flat_layout_and_a_folder_named_templates(render: RenderServer):
    flat = render.post("/render/templates", render.order("flat", layout="flat"), wait=True).json()
    assert flat["templates_dir"] == str(render.root / "flat")
    assert names_of(render.root / "flat") == template_names(42) | {"gnomon_templates.json"}
    own = render.post("/api/v1/render-templates", render.order("own-name/templates")).json()
    assert own["output_dir"] == str(render.root / "own-name" / "templates")
    assert names_of(render.root / "own-name" / "templates") == template_names(42) | {"gnomon_templates.json"}


@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_rendering_again_replaces_what_is_ours_and_nothing_else(render: RenderServer, layout: str):
    order = render.order(f"again-{layout}", layout=layout)
    poses = save_poses(render.root / f"five-{layout}.npy", 5)
    first = render.post("/render/templates", order | {"camera_poses_path": poses}, wait=True).json()
    folder = Path(first["templates_dir"])
    np.save(folder / "xyz_77.npy", np.zeros(3))
    (folder / "notes.txt").write_text("mine")
    old = (folder / "rgb_0.png").read_bytes()
    poses = save_poses(render.root / f"two-{layout}.npy", 2)
    second = render.post(
        "/render/templates", order | {"camera_poses_path": poses, "colorize": True, "base_color": 0.9}, wait=True
    ).json()
    assert second["status"] == "succeeded", second
    sidecar = {"gnomon_templates.json"} if layout == "flat" else set()
    assert names_of(folder) == template_names(2) | {"xyz_77.npy", "notes.txt"} | sidecar
    assert (folder / "rgb_0.png").read_bytes() != old
    (warning,) = second["warnings"]
    assert "1 other .npy files" in warning and "xyz_77.npy" in warning


# The examples


def test_the_examples_work(render: RenderServer):
    environment = {**os.environ, "RENDER_SERVER": render.url, "GNOMON_TOKEN": ""}
    target = str(render.root / "example")
    client = [sys.executable, str(EXAMPLES / "render_client.py"), render.mug, target, "--server", render.url]
    done = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"templates in {target}/templates" in done.stdout
    shell = subprocess.run(
        [str(EXAMPLES / "render.sh"), render.mug, target], env=environment, capture_output=True, text=True, timeout=120
    )
    assert shell.returncode == 0, shell.stderr
    assert json.loads(shell.stdout.splitlines()[-1])["status"] == "succeeded"
