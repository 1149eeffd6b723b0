"""The Render Server's API through kills and restarts, and how it is set up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rendering import RenderServer, prepare, save_poses, start_render_server
from serving import RunningServer, ended
from waiting import until

from gnomon.server.facades import parse
from gnomon.server.settings import load_settings

Serve = Callable[..., RunningServer]


def start(serve: Serve, folder: Path, *flags: str, **environment: str) -> RenderServer:
    def by_fixture(home: Path, *given: str, environment: dict[str, str]) -> RunningServer:
        return serve(*given, home=home, environment=environment)

    return start_render_server(folder, *flags, start=by_fixture, **environment)


def running(render: RenderServer, job_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        record = render.get(f"/jobs/{job_id}").json()
        assert record["status"] in ("queued", "running"), record
        return record if "pid" in record else None

    return until(look, "the worker")


def client_jobs(render: RenderServer) -> list[str]:
    """The ids of gnomon's own jobs."""
    with render.server.client() as client:
        return [job["id"] for job in client.get("/v1/jobs").json()["jobs"]]


def cancel(render: RenderServer, job_id: str) -> None:
    with render.server.client() as client:
        assert client.post(f"/v1/jobs/{job_id}/cancel").status_code in (200, 202)
        ended(client, job_id)


def results_of(home: Path, count: int = 1) -> list[Path]:
    return until(
        lambda: found if len(found := list(home.glob("jobs/*/results/result.json"))) == count else None, "results"
    )


# Kills


def test_a_server_killed_in_mid_job_forgets_and_loses_nothing(serve: Serve, tmp_path: Path):
    prepare(tmp_path)
    poses = save_poses(tmp_path / "roots" / "poses.npy", 100)
    # A slot of the warm pool would do; a detached job is what every launcher has.
    first = start(serve, tmp_path, "--workers", "0")
    job_id = first.post("/render/templates", first.order("out", camera_poses_path=poses)).json()["job_id"]
    before = running(first, job_id)
    os.kill(before["pid"], signal.SIGSTOP)
    first.server.kill()
    os.kill(before["pid"], signal.SIGCONT)
    results_of(first.server.home)
    # The job has ended, nobody was there to deliver; and a delivery of before was cut off.
    assert not (first.root / "out" / "templates").exists()
    draft = first.root / "out" / f".gnomon-render-{job_id}.part"
    draft.mkdir()
    (draft / "rgb_0.png").write_bytes(b"half")

    second = start(serve, tmp_path, "--workers", "0")
    # Without any client asking.
    until((second.root / "out" / "templates").exists, "the delivery")
    record = second.ended(job_id)
    assert record["status"] == "succeeded" and record["returncode"] == 0
    for name in ("job_id", "created_at", "started_at", "pid", "cmd", "log_path", "cad_path", "output_dir"):
        assert record[name] == before[name], name
    assert len(list((second.root / "out" / "templates").glob("xyz_*.npy"))) == 100
    assert sorted(path.name for path in (second.root / "out").iterdir()) == ["gnomon_templates.json", "templates"]
    log = Path(record["log_path"]).read_text()
    assert log.count("published") == 1 and log.endswith("succeeded, 100 views delivered\n")

    second.server.kill()
    third = start(serve, tmp_path, "--workers", "0")
    assert third.get(f"/jobs/{job_id}").json() == record


def test_a_job_that_never_was_fails_after_a_restart(serve: Serve, tmp_path: Path):
    first = start(serve, tmp_path)
    done = first.post("/render/templates", first.order("out"), wait=True).json()
    first.server.kill()
    # Killed between the order and its job: the order is on disk, the job is not.
    orders = first.server.home / "server" / "render" / "orders"
    lost = "8d2b1c53-7a9e-4a52-9d0c-3f6c5be1a001"
    (orders / f"{lost}.json").write_text((orders / f"{done['job_id']}.json").read_text().replace(done["job_id"], lost))
    second = start(serve, tmp_path)
    record = second.ended(lost)
    assert record["status"] == "failed" and record["returncode"] == -1 and "send the request again" in record["error"]
    assert second.get(f"/jobs/{done['job_id']}").json() == done


def test_a_worker_that_is_killed_is_tried_again(serve: Serve, tmp_path: Path):
    prepare(tmp_path)
    poses = save_poses(tmp_path / "roots" / "poses.npy", 100)
    render = start(serve, tmp_path, "--workers", "0")
    job_id = render.post("/render/templates", render.order("out", camera_poses_path=poses)).json()["job_id"]
    os.kill(running(render, job_id)["pid"], signal.SIGKILL)
    record = render.ended(job_id)
    assert record["status"] == "succeeded"
    assert "attempt 2: published" in Path(record["log_path"]).read_text()


def test_a_cancelled_job_is_a_failed_one(serve: Serve, tmp_path: Path):
    prepare(tmp_path)
    poses = save_poses(tmp_path / "roots" / "poses.npy", 600)
    render = start(serve, tmp_path, "--workers", "0")
    job_id = render.post("/render/templates", render.order("out", camera_poses_path=poses)).json()["job_id"]
    running(render, job_id)
    (job,) = client_jobs(render)
    cancel(render, job)
    record = render.ended(job_id)
    assert record["status"] == "failed" and "cancelled" in record["error"] and record["returncode"] != 0
    assert not (render.root / "out" / "templates").exists()


# Set-up


def refusal(tmp_path: Path, *flags: str, **environment: str) -> str:
    """What a server says that does not start."""
    env = {**os.environ, "GNOMON_HOME": str(tmp_path / "home"), **environment}
    command = [sys.executable, "-m", "gnomon", "serve", "--port", "0", *flags]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode in (2, 3), done.stderr
    return done.stderr


def test_without_a_root_it_does_not_start(tmp_path: Path):
    assert "--render-root" in refusal(tmp_path, "--facade", "render:0")
    missing = str(tmp_path / "none")
    assert "is not a folder" in refusal(tmp_path, "--facade", "render:0", "--render-root", missing)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RENDER_LOG_LEVEL", "loud"), ("BLENDER_PROC_SAMPLES", "0"), ("BLENDER_PROC_SAMPLES", "many")],
)
def test_wrong_variables_are_named(tmp_path: Path, variable: str, value: str):
    text = refusal(tmp_path, "--facade", "render:0", "--render-root", str(tmp_path), **{variable: value})
    assert variable in text and "[setting_invalid]" in text


def test_the_old_variables_say_where_to_listen(serve: Serve, tmp_path: Path):
    render = start(serve, tmp_path, "--facade", "render", RENDER_SERVER_HOST="127.0.0.2", RENDER_SERVER_PORT="0")
    assert render.url.startswith("http://127.0.0.2:") and render.server.url.startswith("http://127.0.0.1:")
    assert render.get("/health").status_code == 200


def test_off_loopback_the_old_address_wants_tokens(serve: Serve, tmp_path: Path):
    root = prepare(tmp_path)
    flags = ("--facade", "render:0", "--render-root", str(root))
    text = refusal(tmp_path, *flags, RENDER_SERVER_HOST="0.0.0.0")
    assert "[tokens_needed]" in text and "gnomon tokens create" in text
    # gnomon's own flag goes before.
    told = start(serve, tmp_path, "--host", "127.0.0.1", RENDER_SERVER_HOST="0.0.0.0")
    assert told.url.startswith("http://127.0.0.1:")


def test_the_precedence_of_addresses(monkeypatch: pytest.MonkeyPatch):
    def address(text: str, **given: Any) -> tuple[str, int | None]:
        (facade,) = parse((text,), load_settings(given))
        return facade.host, facade.port

    assert address("render") == ("127.0.0.1", 8004)
    monkeypatch.setenv("RENDER_SERVER_HOST", "0.0.0.0")
    monkeypatch.setenv("RENDER_SERVER_PORT", "9004")
    assert address("render") == ("0.0.0.0", 9004)
    assert address("render:7000", host="::1") == ("::1", 7000)
    assert address("render:/under") == ("127.0.0.1", None)
    assert address("pose-api") == ("127.0.0.1", 5000)
    monkeypatch.setenv("GNOMON_SERVER_HOST", "127.0.0.3")
    assert address("render") == ("127.0.0.3", 9004)


def test_samples_logs_and_levels_by_settings(serve: Serve, tmp_path: Path):
    render = start(
        serve,
        tmp_path,
        "--render-layout", "flat", "--render-logs", str(tmp_path / "logs"),
        BLENDER_PROC_SAMPLES="77", RENDER_LOG_LEVEL="error", DISPLAY=":99",
    )  # fmt: skip
    record = render.post("/render/templates", render.order("out"), wait=True).json()
    assert record["status"] == "succeeded" and record["templates_dir"] == str(render.root / "out")
    assert record["log_path"] == str(tmp_path / "logs" / f"{record['job_id']}.log")
    log = Path(record["log_path"]).read_text()
    for part in (f"job {record['job_id']}: {render.mug} -> {render.root / 'out'}", "42 of 42 views", "published"):
        assert part in log
    with render.server.client() as client:
        (job,) = client.get("/v1/jobs").json()["jobs"]
        assert client.get(f"/v1/jobs/{job['id']}").json()["params"]["samples"] == 77
    assert record["job_id"] not in render.server.log.read_text(), "lines of level info"


def test_the_time_limit_of_a_job(serve: Serve, tmp_path: Path):
    prepare(tmp_path)
    poses = save_poses(tmp_path / "roots" / "poses.npy", 600)
    render = start(serve, tmp_path, "--workers", "0")
    order = render.order("out", camera_poses_path=poses, timeout_sec=1)
    record = render.ended(render.post("/render/templates", order).json()["job_id"])
    assert record["status"] == "failed" and record["returncode"] == -9
    assert "its limit of 1 s" in record["error"]


def test_under_a_prefix(serve: Serve, tmp_path: Path):
    render = start(serve, tmp_path, "--facade", "render:/old/render")
    assert len(render.server.addresses) == 1
    with render.client() as client:
        assert client.get("/old/render/health").json()["message"] == "Render Server is running"
        assert "/old/render/openapi.json" in client.get("/old/render/docs").text
        assert client.get("/old/render/openapi.json").status_code == 200
        assert client.get("/v1/health").status_code == 200
        body = client.post("/old/render/api/v1/render-templates", json=render.order("out")).json()
    assert body["success"]


def test_with_tokens(serve: Serve, tmp_path: Path):
    from gnomon.server.tokens import TokenStore

    store = TokenStore(tmp_path / "home")
    headers = {name: {"Authorization": f"Bearer {store.create(name, ['submit'])[1]}"} for name in ("one", "two")}
    render = start(serve, tmp_path, "--require-token")
    order = render.order("out")
    with render.client() as client:
        assert client.get("/health").status_code == 200
        refused = client.post("/render/templates", json=order)
        assert refused.status_code == 401 and set(refused.json()) == {"detail"}
        assert refused.headers["www-authenticate"] == "Bearer"
        job_id = client.post("/render/templates", json=order, headers=headers["one"]).json()["job_id"]
        assert client.get(f"/jobs/{job_id}").status_code == 401
        assert client.get(f"/jobs/{job_id}", headers=headers["one"]).status_code == 200
        strange = client.get(f"/jobs/{job_id}", headers=headers["two"])
        assert strange.status_code == 404 and strange.json() == {"detail": "job not found"}


def test_refusals_of_the_server_have_this_apis_form(serve: Serve, tmp_path: Path):
    render = start(serve, tmp_path, "--max-body-mb", "0.001")
    with render.client() as client:
        large = client.post("/render/templates", json=render.order("x" * 2000))
        assert large.status_code == 413 and set(large.json()) == {"detail"}
        page = client.post("/render/templates", json=render.order("x"), headers={"Origin": "https://evil.example"})
        assert page.status_code == 403 and set(page.json()) == {"detail"}
    assert not (render.root / "x").exists()


def test_a_full_queue_is_a_429(serve: Serve, tmp_path: Path):
    prepare(tmp_path)
    poses = save_poses(tmp_path / "roots" / "poses.npy", 600)
    render = start(serve, tmp_path, "--workers", "0", "--max-queued-per-token", "1")
    with render.client() as client:
        answers = [
            client.post("/render/templates", json=render.order(f"q{index}", camera_poses_path=poses))
            for index in range(8)
        ]
        for job in client_jobs(render):
            cancel(render, job)
    full = [answer for answer in answers if answer.status_code == 429]
    assert full and full[0].headers["retry-after"] and "too many jobs waiting" in full[0].json()["detail"]
