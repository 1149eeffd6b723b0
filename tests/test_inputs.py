"""Inputs: local files, file URLs and http URLs, their companions, their hashes, and what is refused."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import pytest

from gnomon.errors import InputError
from gnomon.inputs import collect, input_path, safe_name, stage
from gnomon.job import JobStore, new_id
from gnomon.request import Draft, Request
from gnomon.tasks.spec import Input, TaskSpec, input_fields


def companions(path: Path) -> list[str]:
    return [line.removeprefix("use ") for line in path.read_text().splitlines() if line.startswith("use ")]


class Spec(TaskSpec):
    """Two kinds of inputs."""

    task: ClassVar[str] = "spec"

    parts: list[Annotated[str, Input(suffixes=(".txt",), max_bytes=100, companions=companions)]]
    extra: Annotated[str, Input()] | None = None
    method: str = "plain"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inputs"
    made.mkdir()
    return made


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL under which a real server on loopback gives its files."""
    root = tmp_path / "www"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def sealed(tmp_path: Path, spec: Spec, *, allow_private: bool = True):
    store = JobStore(tmp_path / "home")
    draft = Draft(store, new_id())
    collected = collect(spec, draft.inputs)
    request = Request(
        id=draft.id,
        task="spec",
        method="plain",
        params=collected.params,
        inputs=collected.files,
        allow_private_urls=allow_private,
        gnomon_version="0",
    )
    return request, draft.seal(request, collected.urls)


def fetch_all(request, job):
    return stage(request, Spec, job, progress=lambda done, total: None, cancelled=lambda: None)


def test_the_marked_fields_are_found_through_list_and_optional():
    assert [(name, is_list) for name, _, is_list in input_fields(Spec)] == [("parts", True), ("extra", False)]


def test_files_of_the_same_name_do_not_meet(tmp_path: Path, folder: Path):
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.txt").write_text(side)
    collected = collect(Spec(parts=[str(tmp_path / "left/a.txt"), str(tmp_path / "right/a.txt")]), folder)
    assert collected.params["parts"] == ["parts/0000/a.txt", "parts/0001/a.txt"]
    assert [input_path(folder, file.name).read_text() for file in collected.files] == ["left", "right"]
    assert collected.files[0].sha256 == hashlib.sha256(b"left").hexdigest()


def test_file_urls_and_odd_names_work(tmp_path: Path, folder: Path):
    source = tmp_path / "mit Leer & Ümlaut %20.txt"
    source.write_text("x")
    collected = collect(Spec(parts=[source.as_uri(), str(source)]), folder)
    assert input_path(folder, collected.params["parts"][0]).read_text() == "x"
    assert len(collected.files) == 2


def test_companions_travel_with_their_file(tmp_path: Path, folder: Path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "skin.png").write_text("skin")
    (tmp_path / "a.txt").write_text("use maps/skin.png\nuse absent.png\n")
    collected = collect(Spec(parts=[str(tmp_path / "a.txt")]), folder)
    assert [file.name for file in collected.files] == ["parts/0000/a.txt", "parts/0000/maps/skin.png"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("absent.txt", "input_not_found"),
        (".", "input_not_a_file"),
        ("wrong.bin", "input_format"),
        ("large.txt", "input_too_large"),
        ("ftp://host/a.txt", "url_scheme"),
        ("http://host/a.bin", "input_format"),
    ],
)
def test_what_cannot_be_taken_is_named(tmp_path, folder, monkeypatch, source, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.bin").write_text("x")
    (tmp_path / "large.txt").write_text("x" * 101)
    with pytest.raises(InputError) as error:
        collect(Spec(parts=[source]), folder)
    assert (error.value.code, error.value.field) == (code, "parts")


def test_names_cannot_leave_the_folder(folder: Path):
    for name in ("../x", "/etc/passwd", "a/../../x", ""):
        with pytest.raises(InputError) as error:
            input_path(folder, name)
        assert error.value.code == "input_name_unsafe"
    assert safe_name("../../etc/pass wd") == "etc_pass_wd"


def test_urls_are_fetched_by_the_worker_with_their_companions(tmp_path: Path, served):
    root, url = served
    (root / "a.txt").write_text("use skin.png\nuse absent.png\n")
    (root / "skin.png").write_text("skin")
    request, job = sealed(tmp_path, Spec(parts=[f"{url}/a.txt"]))
    assert request.inputs[0].sha256 is None
    files = fetch_all(request, job)
    assert [file.name for file in files] == ["parts/0000/a.txt", "parts/0000/skin.png"]
    assert files[1].sha256 == hashlib.sha256(b"skin").hexdigest()
    # A second attempt finds everything there, also when the server has gone.
    (root / "a.txt").unlink()
    assert fetch_all(request, job) == files


def test_private_addresses_are_refused_unless_allowed(tmp_path: Path, served):
    root, url = served
    (root / "a.txt").write_text("x")
    request, job = sealed(tmp_path, Spec(parts=[f"{url}/a.txt"]), allow_private=False)
    with pytest.raises(InputError) as error:
        fetch_all(request, job)
    assert error.value.code == "url_private"
    assert not list((job.inputs / "parts").glob("[!.]*"))


def test_a_missing_url_is_named_and_leaves_nothing(tmp_path: Path, served):
    _, url = served
    request, job = sealed(tmp_path, Spec(parts=[f"{url}/a.txt"]))
    with pytest.raises(InputError) as error:
        fetch_all(request, job)
    assert error.value.code == "url_not_found"
    with contextlib.suppress(FileNotFoundError):
        assert not list((job.inputs / "parts").glob("[!.]*"))


def test_passwords_and_signatures_stay_out_of_the_request(tmp_path: Path, served):
    root, url = served
    (root / "a.txt").write_text("x")
    secret = url.replace("http://", "http://user:hunter2@") + "/a.txt?signature=s3cret"
    request, job = sealed(tmp_path, Spec(parts=[secret]))
    text = job.request.read_text()
    assert "hunter2" not in text
    assert "s3cret" not in text
    assert (job.path / "private.json").stat().st_mode & 0o777 == 0o600
    files = fetch_all(request, job)
    assert files[0].sha256 == hashlib.sha256(b"x").hexdigest()
    assert not (job.path / "private.json").exists()
