"""Every route, asked all that its own schema allows and much that it does not, never fails by itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ended

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
def test_no_request_makes_the_server_fail(server, http, tmp_path):
    data = b"x" * 100
    sha256 = hashlib.sha256(data).hexdigest()
    http.put(f"/v1/files/{sha256}", content=data).raise_for_status()
    good = http.post("/v1/jobs", json={"task": "probe", "params": {"script": ["write a"]}}).json()["id"]
    bad = http.post("/v1/jobs", json={"task": "probe", "params": {"script": ["raise odd"]}}).json()["id"]
    ended(http, good)
    ended(http, bad)
    hook = http.post("/v1/webhooks/endpoints", json={"url": "https://receiver.invalid/x"}).json()
    known = {
        "job_id": [good, bad],
        "name": ["a/data.txt", "result.json", "templates", "probe"],
        "sha256": [sha256],
        "endpoint_id": [hook["id"]],
    }
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    options = [
        f"{server.url}/openapi.json",
        "--checks",
        CHECKS,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "15",
        "--seed",
        "1",
        # Real messages to receivers, which wait for a name server.
        "--exclude-path",
        "/v1/webhooks/endpoints/{endpoint_id}/test",
        "--request-timeout",
        "30",
        "--no-color",
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "fuzz_hooks",
        "GNOMON_FUZZ_KNOWN": json.dumps(known),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert http.get("/v1/health").status_code == 200
    log = server.log.read_text()
    assert "Traceback" not in log, log[-5000:]
