"""The old pose API over real HTTP: answers, every refusal of its table, saved requests and their replay."""

from __future__ import annotations

import base64
import functools
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from pose_requests import CAMERA, as_json, png64, png_that_promises, pose_scene, small_body, to_base64
from serving import RunningServer, ended, start_server
from waiting import until

from gnomon.formats.mesh_file import load_mesh

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_BODY_MB = 4
FLAGS = ("--workers", "2", "--facade", "pose-api:0", "--pose-api-body-mb", str(MOST_BODY_MB))
JSON = {"Content-Type": "application/json"}


@dataclass
class PoseServer:
    """A server with the facade, and how its clients talk to it."""

    server: RunningServer
    http: httpx2.Client

    @property
    def saved(self) -> Path:
        return self.server.home / "FoundationPose" / "saved_requests"

    def post(self, body: Any, *, query: str = "", headers: dict[str, str] = JSON) -> httpx2.Response:
        content = body if isinstance(body, bytes) else as_json(body)
        return self.http.post(f"/foundationpose{query}", content=content, headers=headers)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoseServer]:
    server = start_server(tmp_path_factory.mktemp("pose-api") / "home", *FLAGS)
    with httpx2.Client(base_url=server.addresses[1], timeout=120.0, trust_env=False) as client:
        yield PoseServer(server, client)
    server.stop()


def check_refusal(answer: httpx2.Response, status: int, error: str, details: str = "") -> None:
    """The refusal is that of the old API: JSON with two texts."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["error"] == error, body
    assert details in body["details"], body


def off(found: list[list[float]], truth: np.ndarray) -> tuple[float, float]:
    """Degrees and metres between two poses."""
    T = np.array(found)
    cosine = (np.trace(T[:3, :3].T @ truth[:3, :3]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), float(np.linalg.norm(T[:3, 3] - truth[:3, 3]))


def changed(**fields: Any) -> dict[str, Any]:
    return small_body() | fields


def with_image(**fields: Any) -> dict[str, Any]:
    body = small_body()
    return body | {"images": [body["images"][0] | fields]}


def without_image_field(name: str) -> dict[str, Any]:
    body = small_body()
    del body["images"][0][name]
    return body


# Answers


def test_the_root_says_that_it_runs(api: PoseServer):
    answer = api.http.get("/")
    assert (answer.status_code, answer.text) == (200, "it is running!")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.fixture(scope="module")
def answered(api: PoseServer) -> dict[str, Any]:
    """The answer to three frames whose names sort as they are sent."""
    answer = api.post(pose_scene().body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_poses_are_right_and_in_metres(answered: dict[str, Any]):
    assert answered["status"] == "Pose estimation complete"
    assert answered["transformation_matrix"] == answered["transformation_matrices"][0]
    assert answered["filenames"] == ["frame0", "frame1", "frame2"]
    assert answered["states"] == ["estimated", "tracked", "tracked"]
    assert answered["ambiguous"] == [False] * 3 and min(answered["scores"]) > 0.5
    for found, truth in zip(answered["transformation_matrices"], pose_scene().truth, strict=True):
        degrees, metres = off(found, truth)
        assert degrees < 3 and metres < 0.005
        assert np.array(found)[3].tolist() == [0, 0, 0, 1]


def test_a_request_is_kept_in_the_old_layout(api: PoseServer, answered: dict[str, Any]):
    assert str(uuid.UUID(answered["request_id"], version=4)) == answered["request_id"]
    folder = api.saved / answered["request_id"]
    body = pose_scene().body
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    frames = ["frame0", "frame1", "frame2"]
    assert files == {
        "cam_K.txt",
        "masks/frame0.png",
        "mesh/frame0.ply",
        "mesh/original.ply",
        *(f"{kind}/{name}.png" for kind in ("rgb", "depth") for name in frames),
        *(f"debug/ob_in_cam/{name}.txt" for name in frames),
    }
    assert (folder / "debug" / "track_vis").is_dir()
    assert (folder / "cam_K.txt").read_text() == "286.2 0 162.6\n0 286.8 121.0\n0 0 1\n"
    for name, image in zip(frames, body["images"], strict=True):
        for kind in ("rgb", "depth"):
            assert (folder / kind / f"{name}.png").read_bytes() == base64.b64decode(image[kind])
    assert (folder / "masks" / "frame0.png").read_bytes() == base64.b64decode(body["mask"])
    assert (folder / "mesh" / "original.ply").read_bytes() == base64.b64decode(body["mesh"])
    sent, kept = load_mesh(folder / "mesh" / "original.ply"), load_mesh(folder / "mesh" / "frame0.ply")
    np.testing.assert_allclose(kept.vertices, sent.vertices * 0.001, rtol=1e-6)
    np.testing.assert_array_equal(kept.vertex_rgb, sent.vertex_rgb)
    for name, matrix in zip(frames, answered["transformation_matrices"], strict=True):
        text = (folder / "debug" / "ob_in_cam" / f"{name}.txt").read_text()
        assert text == "".join(" ".join(f"{value:.18e}" for value in row) + "\n" for row in matrix)


def test_a_saved_request_can_be_repeated(api: PoseServer, answered: dict[str, Any], tmp_path: Path):
    folder = api.saved / answered["request_id"]
    command = ["object-pose", "--scene", str(folder), "--no-overlay", "--no-video", "-o", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-m", "gnomon", *command], check=True, capture_output=True)
    for name, matrix in zip(answered["filenames"], answered["transformation_matrices"], strict=True):
        again = np.loadtxt(tmp_path / "out" / "ob_in_cam" / f"{name}.txt")
        degrees, metres = off(matrix, again)
        assert degrees < 0.5 and metres < 0.001


def test_the_job_is_one_like_any_other(api: PoseServer, answered: dict[str, Any]):
    with api.server.client() as http:
        job = http.get(f"/v1/jobs/{answered['job_id']}").json()
    assert (job["task"], job["state"], job["label"]) == ("object-pose", "succeeded", answered["request_id"])
    saved = api.saved / answered["request_id"] / "rgb" / "frame0.png"
    assert saved.stat().st_nlink > 1, "its inputs are links to the saved files"


def test_several_clients_at_once_in_the_forms_that_bodies_come_in(api: PoseServer):
    """One client asks for all frames; others pack JSON into JSON, or leave the content type out."""
    scene = pose_scene()
    body = scene.body
    packed = {name: json.dumps(body[name]) for name in ("camera_matrix", "images", "mesh")}
    slashes = as_json(body).replace(b"/", b"\\/")
    # Whoever sends the frames in another order gets them in that order; the mask is that of the first one sent.
    named = scene.with_names("zz.png", "b", "A c.PNG")
    wants = [
        (as_json(body), "?frames=all", JSON),
        (as_json(json.dumps(body)), "", JSON),
        (as_json(body | packed), "", {"Content-Type": "text/plain"}),
        (slashes, "", {"Content-Type": "application/x-www-form-urlencoded"}),
        (as_json(named), "?frames=first", {}),
    ]
    with ThreadPoolExecutor(len(wants)) as pool:
        answers = list(pool.map(lambda want: api.post(want[0], query=want[1], headers=want[2]), wants))
    assert [answer.status_code for answer in answers] == [200] * len(wants), [answer.text for answer in answers]
    found = [answer.json() for answer in answers]
    assert len({one["request_id"] for one in found}) == len(wants)
    assert found[0]["transformation_matrix"] == found[0]["transformation_matrices"]
    assert found[4]["filenames"] == ["zz", "b", "A c"]
    for one in found:
        for matrix, truth in zip(one["transformation_matrices"], scene.truth, strict=True):
            degrees, metres = off(matrix, truth)
            assert degrees < 3 and metres < 0.005
        for name in one["filenames"]:
            assert (api.saved / one["request_id"] / "debug" / "ob_in_cam" / f"{name}.txt").is_file()


def test_a_lost_frame_is_null_and_never_an_identity(api: PoseServer):
    scene = pose_scene()
    empty_rgb, empty_depth = np.full((240, 320, 3), 60, np.uint8), np.full((240, 320), 3000, np.uint16)
    gone = {"filename": "gone", "rgb": png64(empty_rgb), "depth": png64(empty_depth)}
    answer = api.post(scene.body | {"images": [scene.body["images"][0], gone]}, query="?frames=all")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["transformation_matrix"][1] is None and found["transformation_matrices"][1] is None
    assert found["states"] == ["estimated", "lost"]
    results = api.saved / found["request_id"] / "debug" / "ob_in_cam"
    assert [path.name for path in results.iterdir()] == ["frame0.txt"]


def test_a_frame_called_original_can_be_repeated_too(api: PoseServer):
    found = api.post(pose_scene().with_names("original")).json()
    folder = api.saved / found["request_id"]
    assert [path.name for path in (folder / "mesh").iterdir()] == ["original.ply"]
    from gnomon.tasks.object_pose.scene import expand

    assert expand(folder, None, {})["mesh"] == [str(folder / "mesh" / "original.ply")]


def test_a_mesh_in_metres_says_so(api: PoseServer):
    body = pose_scene().with_names("a")
    mesh = pose_scene().body["mesh"]
    from gnomon.formats.ply_scaled import scaled_ply

    in_metres = to_base64(scaled_ply(base64.b64decode(mesh), 0.001))
    check_refusal(api.post(body | {"mesh": in_metres}), 400, "Invalid mesh or mask", '"m"')
    answer = api.post(body | {"mesh": in_metres, "mesh_unit": "m"})
    degrees, metres = off(answer.json()["transformation_matrix"], pose_scene().truth[0])
    assert degrees < 3 and metres < 0.005


def test_the_examples(api: PoseServer, tmp_path: Path):
    scene = pose_scene().body
    for kind in ("rgb", "depth"):
        (tmp_path / f"{kind}.png").write_bytes(base64.b64decode(scene["images"][0][kind]))
    (tmp_path / "mask.png").write_bytes(base64.b64decode(scene["mask"]))
    (tmp_path / "mesh.ply").write_bytes(base64.b64decode(scene["mesh"]))
    camera = [str(number) for number in (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy)]
    client = [sys.executable, str(EXAMPLES / "pose_api_client.py"), "--rgb", "rgb.png", "--depth", "depth.png"]
    client += ["--mask", "mask.png", "--mesh", "mesh.ply", "--camera", *camera, "--url", str(api.http.base_url)]
    run = functools.partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "rgb: estimated, score 0." in run([*client, "--frames", "all"]).stdout
    run([*client, "--save", "request.json"])
    environment = os.environ | {"POSE_API_URL": str(api.http.base_url).rstrip("/")}
    printed = run(["sh", str(EXAMPLES / "pose_api.sh"), "request.json"], env=environment).stdout
    first, second = printed.splitlines()
    assert first == "it is running!" and json.loads(second)["filenames"] == ["rgb"]


def test_a_client_that_hangs_up_cancels_nothing(api: PoseServer):
    before = set(api.saved.glob("[!.]*"))
    body = as_json(pose_scene().with_names("left"))
    head = f"POST /foundationpose HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((api.http.base_url.host, api.http.base_url.port)) as connection:
        connection.sendall(head.encode() + body)

        def saved() -> list[Path]:
            return list(set(api.saved.glob("[!.]*")) - before)

        (folder,) = until(saved, "the saved request")
    until((folder / "debug" / "ob_in_cam" / "left.txt").is_file, "the result of a request whose client left")


# Refusals: the table of docs/pose-api.md


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"null", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"a": \xff}'])
def test_no_json_or_none_with_content(api: PoseServer, body: bytes):
    check_refusal(api.post(body), 401, "Invalid or empty JSON!")


@pytest.mark.parametrize("text", ["no json", "{", "", '{"camera_matrix": '])
def test_a_json_text_that_holds_no_json(api: PoseServer, text: str):
    check_refusal(api.post(text), 401, "Invalid JSON format!")


def test_no_json_of_another_content_type(api: PoseServer):
    answer = api.post(b"camera_matrix=1&images=2", headers={"Content-Type": "application/x-www-form-urlencoded"})
    check_refusal(answer, 401, "Invalid or empty JSON!")


@pytest.mark.parametrize("name", ["camera_matrix", "images", "mask", "mesh"])
def test_missing_fields(api: PoseServer, name: str):
    body = small_body()
    del body[name]
    check_refusal(api.post(body), 400, "Invalid fields", name)
    check_refusal(api.post(changed(**{name: None})), 400, "Invalid fields", name)


@pytest.mark.parametrize("name", ["filename", "rgb", "depth"])
def test_missing_fields_of_an_image(api: PoseServer, name: str):
    check_refusal(api.post(without_image_field(name)), 400, "Invalid fields", name)


@pytest.mark.parametrize(
    "matrix",
    [
        [],
        7,
        {"a": 1},
        [[1, 0, 0], [0, 1, 0]],
        [[1, 0], [0, 1], [0, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, "1"]],
        [[1, 0, 0], [0, True, 0], [0, 0, 1]],
        [[10**400, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_a_matrix_of_another_shape(api: PoseServer, matrix: Any):
    check_refusal(api.post(changed(camera_matrix=matrix)), 400, "Invalid matrix or image", "camera_matrix")


@pytest.mark.parametrize(
    ("images", "error"), [([], "Invalid matrix or image"), ({"a": 1}, "Invalid fields"), ([7], "Invalid fields")]
)
def test_images_that_are_no_list_of_images(api: PoseServer, images: Any, error: str):
    check_refusal(api.post(changed(images=images)), 400, error, "images")


@pytest.mark.parametrize(
    "name",
    ["", ".png", ".", "..", "../x", "a/b", "/etc/x", "a\\b", "a\0b", "a\nb", "C:x", "x" * 201, "ä" * 150, "\ud800", 7],
)
def test_names_that_are_no_plain_file_names(api: PoseServer, name: Any):
    before = sorted(api.server.home.rglob("*.ply"))
    check_refusal(api.post(with_image(filename=name)), 400, "Invalid fields", "filename")
    assert sorted(api.server.home.rglob("*.ply")) == before


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a.png"), ("a", "A")])
def test_names_that_are_there_twice(api: PoseServer, names: tuple[str, str]):
    check_refusal(api.post(pose_scene().with_names(*names)), 400, "Invalid fields", "twice")


BAD_BASE64 = [
    "no base64!",
    "AAA",
    "AAAA\nAAAA",
    " AAAA",
    "data:image/png;base64,AAAA",
    "AA==AAAA",
    "AA-_",
    "AAAA" * 4000 + "=",
]


@pytest.mark.parametrize("text", BAD_BASE64)
@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_pictures_that_are_no_base64(api: PoseServer, kind: str, text: str):
    check_refusal(api.post(with_image(**{kind: text})), 402, "Invalid b64 images", "images[0] failed validation")


@pytest.mark.parametrize("text", BAD_BASE64)
@pytest.mark.parametrize("name", ["mask", "mesh"])
def test_mesh_or_mask_that_is_no_base64(api: PoseServer, name: str, text: str):
    details = "At least one of the mesh or mask image is invalid for b64 decode"
    check_refusal(api.post(changed(**{name: text})), 402, "Invalid mesh or mask", details)


@pytest.mark.parametrize("name", ["camera_matrix", "images"])
def test_a_field_whose_text_is_no_json(api: PoseServer, name: str):
    check_refusal(api.post(changed(**{name: "[[1, 2"})), 402, "Invalid JSON format!", name)


NO_PNG = to_base64(b"\xff\xd8\xff\xe0 a JPEG, perhaps")


@pytest.mark.parametrize(
    ("body", "error", "details"),
    [
        (with_image(rgb=NO_PNG), "Invalid matrix or image", "images[0].rgb is no PNG"),
        (with_image(depth=NO_PNG), "Invalid matrix or image", "images[0].depth is no PNG"),
        (with_image(rgb=""), "Invalid matrix or image", "images[0].rgb is no PNG"),
        (with_image(depth=png64(np.zeros((12, 16), np.uint8))), "Invalid matrix or image", "16 bits"),
        (with_image(depth=png64(np.zeros((12, 17), np.uint16))), "Invalid matrix or image", "17 x 12"),
        (with_image(depth=to_base64(png_that_promises(60_000, 60_000))), "Invalid matrix or image", "60000 x 60000"),
        (changed(mask=NO_PNG), "Invalid mesh or mask", "mask is no PNG"),
        (changed(mask=png64(np.ones((6, 8), np.uint8))), "Invalid mesh or mask", "8 x 6"),
        (changed(mesh=NO_PNG), "Invalid mesh or mask", "no PLY"),
        (changed(mesh=to_base64(b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 5000)), "Invalid mesh or mask", ""),
        (changed(mesh_unit="ell"), "Invalid fields", "mesh_unit"),
    ],
)
def test_pictures_and_meshes_that_are_none(api: PoseServer, body: dict[str, Any], error: str, details: str):
    check_refusal(api.post(body), 400, error, details)


def test_a_mesh_that_promises_too_many_triangles(api: PoseServer):
    mesh = base64.b64decode(small_body()["mesh"]).replace(b"element face 4", b"element face 400000000")
    check_refusal(api.post(changed(mesh=to_base64(mesh))), 400, "Invalid mesh or mask", "400,000,000")


def test_a_choice_of_frames_that_does_not_exist(api: PoseServer):
    check_refusal(api.post(small_body(), query="?frames=some"), 400, "Invalid fields", "frames")


def test_what_only_the_job_can_see_is_refused_too(api: PoseServer):
    """No depth under the mask is an error, where the old server answered with an identity."""
    no_depth = with_image(depth=png64(np.zeros((12, 16), np.uint16)))
    torn = with_image(rgb=to_base64(base64.b64decode(small_body()["images"][0]["rgb"])[:45]))
    wants = [
        (no_depth, "Invalid m", "depth"),
        (changed(mask=png64(np.zeros((12, 16), np.uint8))), "Invalid mesh or mask", "empty"),
        (torn, "Invalid matrix or image", "cannot be read"),
    ]
    with ThreadPoolExecutor(len(wants)) as pool:
        answers = list(pool.map(lambda want: api.post(want[0]), wants))
    for answer, (_, error, details) in zip(answers, wants, strict=True):
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"].startswith(error) and details in answer.json()["details"], answer.text
        assert (api.saved / answer.json()["request_id"] / "cam_K.txt").is_file()


def test_a_job_that_fails_is_no_success(api: PoseServer):
    """A cancelled job stands for every end that is not the request's fault."""
    with ThreadPoolExecutor(1) as pool, api.server.client() as http:
        # A job that takes all processors keeps the next one waiting.
        order = {"task": "probe", "params": {"script": ["wait go"]}, "resources": {"cpus": os.cpu_count()}}
        blocker = http.post("/v1/jobs", json=order).json()["id"]
        until(lambda: http.get(f"/v1/jobs/{blocker}").json()["state"] == "running", "the job that blocks")
        pending = pool.submit(api.post, pose_scene().with_names("cancelled"))

        def waiting() -> list[dict[str, Any]]:
            jobs = http.get("/v1/jobs", params={"task": "object-pose", "state": "queued"}).json()
            return jobs["jobs"]

        (job,) = until(waiting, "the pose job")
        http.post(f"/v1/jobs/{job['id']}/cancel")
        check_refusal(pending.result(), 500, "Pose job failed", "cancelled")
        http.post(f"/v1/jobs/{blocker}/cancel")


def test_bodies_that_are_too_large(api: PoseServer):
    check_refusal(api.post(b'"' + b"A" * (MOST_BODY_MB * 1_000_000 + 1)), 413, "Body too large", "--pose-api-body-mb")


def test_other_routes_and_methods(api: PoseServer):
    check_refusal(api.http.get("/docs"), 404, "Not Found")
    answer = api.http.get("/foundationpose")
    check_refusal(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"


def test_pages_of_other_origins_are_kept_away(api: PoseServer):
    check_refusal(api.post(small_body(), headers=JSON | {"Origin": "https://evil.example"}), 403, "Origin refused")
    check_refusal(api.http.get("/", headers={"Host": "evil.example"}), 421, "Host refused")


# Other settings


def test_under_a_prefix_with_a_status_and_a_folder_of_ones_own(serve, tmp_path: Path):
    flags = ["--facade", "pose-api:/pose", "--pose-api-base64-status", "400", "--max-body-mb", "0.0005"]
    server = serve("--workers", "0", *flags, "--saved-requests", str(tmp_path / "kept"))
    assert len(server.addresses) == 1
    with server.client() as http:
        assert http.get("/pose/").text == "it is running!"
        assert http.get("/v1/health").json()["status"] == "ok"
        check_refusal(http.post("/pose/foundationpose", json=changed(mask="?")), 400, "Invalid mesh or mask", "b64")
        answer = http.post("/pose/foundationpose", json=changed(mask=png64(np.zeros((12, 16), np.uint8))))
        check_refusal(answer, 400, "Invalid mesh or mask", "empty")
        assert [path.name for path in (tmp_path / "kept").iterdir()] == [answer.json()["request_id"]]
        assert http.post("/v1/jobs", json=small_body()).status_code == 413


def test_with_tokens(serve, tmp_path: Path):
    server = serve("--workers", "0", "--require-token", "--facade", "pose-api:0")
    with httpx2.Client(base_url=server.addresses[1], trust_env=False, timeout=60.0) as http:
        assert http.get("/").text == "it is running!"
        answer = http.post("/foundationpose", json=small_body())
        check_refusal(answer, 401, "Token missing", "Authorization")
        assert answer.headers["www-authenticate"] == "Bearer"
        check_refusal(http.post("/foundationpose", headers={"Authorization": "Bearer x"}), 401, "Token invalid")


def test_a_full_queue(serve):
    server = serve("--workers", "0", "--max-queued", "1", "--facade", "pose-api:0")
    with server.client() as v1, httpx2.Client(base_url=server.addresses[1], trust_env=False, timeout=60.0) as http:
        order = {"task": "probe", "params": {"script": ["wait go"]}, "resources": {"cpus": 1000}}
        waiting = v1.post("/v1/jobs", json=order).json()["id"]
        answer = http.post("/foundationpose", json=small_body())
        check_refusal(answer, 429, "Queue full")
        assert answer.headers["retry-after"] == "10"
        v1.post(f"/v1/jobs/{waiting}/cancel")
        ended(v1, waiting)
