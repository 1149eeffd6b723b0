"""Jobs over HTTP, against a real server."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

from serving import ended

SCRIPT = {"task": "probe", "params": {"script": ["say hello", "write a"]}}


def submit(http, order, **headers):
    answer = http.post("/v1/jobs", json=order, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_a_job_from_order_to_results(http):
    job = submit(http, SCRIPT | {"label": "first"})
    assert job["state"] in ("queued", "launching", "staging", "running", "publishing", "succeeded")
    done = ended(http, job["id"])
    assert done["state"] == "succeeded", done
    assert done["result"] == {"done": ["a"]}
    listed = http.get(f"/v1/jobs/{job['id']}/results").json()
    assert [file["name"] for file in listed["files"]] == ["a/data.txt"]
    text = http.get(f"/v1/jobs/{job['id']}/results/a/data.txt")
    assert text.text == "a" * 1000
    part = http.get(f"/v1/jobs/{job['id']}/results/a/data.txt", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.text == "a" * 10
    packed = zipfile.ZipFile(io.BytesIO(http.get(f"/v1/jobs/{job['id']}/results.zip").content))
    assert sorted(packed.namelist()) == ["a/data.txt", "result.json"]
    assert "hello" in http.get(f"/v1/jobs/{job['id']}/logs").text
    assert http.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert http.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_an_uploaded_file_becomes_an_input(http):
    data = b"some bytes"
    sha256 = hashlib.sha256(data).hexdigest()
    assert http.put(f"/v1/files/{sha256}", content=data).status_code == 201
    job = submit(http, {"task": "probe", "params": {"data": "in/x.bin"}, "files": {"in/x.bin": sha256}})
    done = ended(http, job["id"])
    assert done["state"] == "succeeded", done
    assert done["inputs"][0]["sha256"] == sha256
    assert done["params"]["data"] == "data/x.bin"


def test_paths_of_the_server_are_never_read(http):
    for source in ("/etc/passwd", "file:///etc/passwd", "../x"):
        answer = http.post("/v1/jobs", json={"task": "probe", "params": {"data": source}})
        assert answer.status_code == 422
        assert answer.json()["code"] == "input_not_found"
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_same_key_and_order_give_the_same_job(http):
    first = http.post("/v1/jobs", json=SCRIPT, headers={"Idempotency-Key": "k1"})
    again = http.post("/v1/jobs", json=SCRIPT, headers={"Idempotency-Key": "k1"})
    other = http.post("/v1/jobs", json=SCRIPT | {"seed": 1}, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 422 and other.json()["code"] == "idempotency_mismatch"


def test_cancel_and_retry(server, http):
    job = submit(http, {"task": "probe", "params": {"script": ["wait go", "write b"]}})
    assert http.delete(f"/v1/jobs/{job['id']}").json()["code"] == "job_active"
    http.post(f"/v1/jobs/{job['id']}/cancel")
    assert ended(http, job["id"])["state"] == "cancelled"
    (server.home / "jobs" / job["id"] / "go").touch()
    assert http.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
    assert ended(http, job["id"])["state"] == "succeeded"
    assert http.post(f"/v1/jobs/{job['id']}/retry").status_code == 409


def test_events_by_batch_and_by_stream(http):
    job = submit(http, SCRIPT)
    ended(http, job["id"])
    batch = http.get(f"/v1/jobs/{job['id']}/events").json()
    kinds = [event["event"] for event in batch["events"]]
    assert kinds[0] == "state" and kinds[-1] == "published" and batch["final"]
    rest = http.get(f"/v1/jobs/{job['id']}/events", params={"after": batch["cursor"]}).json()
    assert rest["events"] == []
    stream = http.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"}).text
    names = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]
    assert names == [*kinds, "job", "end"]


def test_lists_are_paged_and_filtered(http):
    ids = [submit(http, SCRIPT | {"label": f"n{n % 2}"})["id"] for n in range(5)]
    first = http.get("/v1/jobs", params={"limit": 3}).json()
    second = http.get("/v1/jobs", params={"limit": 3, "before": first["next"]}).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert second["next"] is None
    odd = http.get("/v1/jobs", params={"label": "n1"}).json()["jobs"]
    assert [job["id"] for job in odd] == [ids[3], ids[1]]


def test_wrong_orders_are_problems_that_name_the_field(http):
    cases = [
        ({"task": "nothing"}, 422, "task_not_found"),
        ({"task": "probe", "params": {"nonsense": 1}}, 422, "field_unknown"),
        ({"task": "probe", "params": {"script": 3}}, 422, "field_invalid"),
        ({"task": "probe", "unknown": 3}, 422, "field_unknown"),
        ({"task": "probe", "resources": {"cpus": 0}}, 422, "field_invalid"),
        ({"task": "probe", "resources": {"cores": 1}}, 422, "field_unknown"),
        ({"task": "probe", "site": "moon"}, 422, "site_not_found"),
        ({"task": "probe", "files": {"../x": "0" * 64}}, 422, "input_name_unsafe"),
        ({"task": "probe", "files": {"x": "0" * 63}}, 422, "field_invalid"),
        ({"task": "probe", "files": {"x": "0" * 64}}, 422, "upload_not_found"),
        ({"task": "probe", "params": {"method": "absent"}}, 422, "method_not_installed"),
        ([], 422, "field_invalid"),
    ]
    for order, status, code in cases:
        answer = http.post("/v1/jobs", json=order)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (order, answer.text)
    answer = http.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "body_invalid")
    assert http.get("/v1/nothing").json()["code"] == "route_not_found"
    assert http.put("/v1/jobs").json()["code"] == "method_not_allowed"


def test_what_the_server_says_about_itself(http):
    assert http.get("/v1/health").json()["status"] == "ok"
    assert http.get("/v1/ready").json() == {"ready": True, "problems": []}
    assert "probe" in [task["name"] for task in http.get("/v1/tasks").json()]
    assert http.get("/v1/tasks/templates").json()["inputs"][0]["field"] == "mesh"
    assert http.get("/v1/tasks/nothing").status_code == 404
    assert http.get("/v1/sites").json()[0]["name"] == "local"
    assert {"raster", "render-compare"} <= {method["name"] for method in http.get("/v1/methods").json()}
    assert http.get("/v1/system").json()["cpus"] >= 1
    document = http.get("/openapi.json").json()
    assert "/v1/jobs/{job_id}" in document["paths"]
    page = http.get("/docs").text
    assert "cdn" not in page and http.get("/docs/static/swagger-ui-bundle.js").status_code == 200


def test_metrics_count_jobs(http):
    ended(http, submit(http, SCRIPT)["id"])
    text = http.get("/metrics").text
    assert 'gnomon_jobs{reason="",state="succeeded",task="probe"} 1.0' in text
    assert "gnomon_jobs_run_seconds_mean" in text


def test_a_site_with_a_price_gives_jobs_a_cost(serve, tmp_path):
    (tmp_path / "sites.toml").write_text('[sites.local]\nprice_per_hour = 3600.0\ncurrency = "EUR"\n')
    server = serve()
    with server.client() as client:
        done = ended(client, submit(client, SCRIPT)["id"])
        assert done["currency"] == "EUR" and done["cost"] > 0
        assert 'gnomon_jobs_cost{currency="EUR",task="probe"}' in client.get("/metrics").text


def test_sealed_results_say_what_they_are(http):
    job = submit(http, SCRIPT)
    ended(http, job["id"])
    answer = http.get(f"/v1/jobs/{job['id']}/results/result.json")
    assert json.loads(answer.text)["job"] == job["id"]
    assert answer.headers["content-security-policy"] == "sandbox"
