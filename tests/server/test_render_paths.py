"""Paths of the Render Server's API: nothing outside the roots is read or written, whatever links are in the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rendering import MUG, RenderServer, start_render_server

from gnomon.errors import InputError
from gnomon.server.facades.render_paths import Roots
from gnomon.server.facades.render_placing import place_templates
from gnomon.server.facades.render_staging import stage

REFUSED = "does not lie in a folder that this server may use"


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RenderServer]:
    found = start_render_server(tmp_path_factory.mktemp("render"))
    (found.root / "way-out").symlink_to(found.outside)
    (found.root / "linked.ply").symlink_to(found.outside / "secret.ply")
    (found.root / "inside").mkdir()
    (found.root / "way-in").symlink_to(found.root / "inside")
    shutil.copy(MUG, found.root / "inside" / "mug.ply")
    yield found
    found.server.stop()


ESCAPES = {
    "dots": "{root}/../outside/{name}",
    "inner dots": "{root}/inside/../../outside/{name}",
    "link to a folder": "{root}/way-out/{name}",
    "same beginning": "{root}2/{name}",
    "another place": "/etc/{name}",
    "the parent": "{root}/..",
}


@pytest.mark.parametrize("escape", list(ESCAPES.values()), ids=list(ESCAPES))
@pytest.mark.parametrize("field", ["cad_path", "output_dir", "camera_poses_path"])
def test_no_path_leads_out(render: RenderServer, field: str, escape: str):
    name = {"cad_path": "secret.ply", "output_dir": "out", "camera_poses_path": "poses.npy"}[field]
    order = render.order("escape") | {field: escape.format(root=render.root, name=name)}
    simple = render.post("/render/templates", order)
    assert simple.status_code == 403 and REFUSED in simple.json()["detail"]
    documented = render.post("/api/v1/render-templates", order)
    assert documented.status_code == 403 and REFUSED in documented.json()["error_message"]
    batch = render.post("/api/v1/render-templates-batch", [order]).json()
    assert batch["failed"] == 1 and REFUSED in batch["results"][0]["error_message"]
    assert not (render.root / "escape").exists()
    assert sorted(path.name for path in render.outside.iterdir()) == ["secret.ply"]
    assert not (render.root.parent / "roots2" / "out").exists()


def test_a_link_to_a_file_outside_is_refused(render: RenderServer):
    order = render.order("linked", cad_path=str(render.root / "linked.ply"))
    assert render.post("/render/templates", order).status_code == 403
    # Also where the ending is looked for.
    assert render.post("/render/templates", order | {"cad_path": str(render.root / "linked")}).status_code == 403


@pytest.mark.parametrize("path", ["mug.ply", "", "~/mug.ply", "/x\0.ply", "/" + "x" * 5000])
def test_what_is_no_absolute_path_is_a_wrong_field(render: RenderServer, path: str):
    assert render.post("/render/templates", render.order("x", cad_path=path)).status_code == 422


def test_links_within_the_roots_are_followed(render: RenderServer):
    order = render.order("way-in/out", cad_path=str(render.root / "way-in" / "mug.ply"))
    body = render.post("/api/v1/render-templates", order).json()
    assert body["success"], body
    assert body["output_dir"] == str(render.root / "way-in" / "out" / "templates")
    assert len(list((render.root / "inside" / "out" / "templates").iterdir())) == 126


def test_a_templates_folder_that_leads_out_is_not_written(render: RenderServer):
    (render.root / "sly").mkdir()
    (render.root / "sly" / "templates").symlink_to(render.outside)
    record = render.post("/render/templates", render.order("sly"), wait=True).json()
    assert record["status"] == "failed" and REFUSED in record["error"]
    assert sorted(path.name for path in render.outside.iterdir()) == ["secret.ply"]


def test_a_file_that_is_a_link_is_replaced_and_not_followed(render: RenderServer):
    victim = render.outside / "secret.ply"
    before = victim.read_bytes()
    (render.root / "files" / "templates").mkdir(parents=True)
    (render.root / "files" / "templates" / "rgb_0.png").symlink_to(victim)
    (render.root / "files" / "gnomon_templates.json").symlink_to(victim)
    record = render.post("/render/templates", render.order("files"), wait=True).json()
    assert record["status"] == "succeeded", record
    assert victim.read_bytes() == before
    assert not (render.root / "files" / "templates" / "rgb_0.png").is_symlink()
    assert not (render.root / "files" / "gnomon_templates.json").is_symlink()


def test_a_list_of_files_from_somebody_else_deletes_nothing_else(render: RenderServer):
    folder = render.root / "list"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates" / "notes.txt").write_text("mine")
    (folder / "gnomon_templates.json").write_text(
        '{"files": ["templates/../../mug.ply", "templates/notes.txt", "mug.ply", 7, "/etc/passwd", "templates/.."]}'
    )
    record = render.post("/render/templates", render.order("list"), wait=True).json()
    assert record["status"] == "succeeded", record
    assert (folder / "templates" / "notes.txt").exists() and Path(render.mug).exists()


def test_companions_are_read_within_the_roots_only(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.mtl").write_text("secret")
    (root / "mesh.obj").write_text("mtllib linked.mtl\nmtllib ../outside/secret.mtl\nmtllib own.mtl\nv 0 0 0\n")
    (root / "linked.mtl").symlink_to(outside / "secret.mtl")
    (root / "own.mtl").write_text("newmtl a\nmap_Kd tex/a.png\nmap_Ks tex/none.png\n")
    (root / "tex").mkdir()
    (root / "tex" / "a.png").write_bytes(b"picture")
    folder = tmp_path / "staging"
    folder.mkdir()
    staged = stage(Roots([root]), str(root / "mesh.obj"), None, folder, 1000)
    copied = sorted(path.relative_to(folder).as_posix() for path in staged.hashes)
    assert copied == ["mesh/mesh.obj", "mesh/own.mtl", "mesh/tex/a.png"]
    assert copied == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (root / "a" / "b" / "file").write_text("right")
    (outside / "file").write_text("wrong")
    roots = Roots([root])
    folder = roots.locate(str(root / "a" / "b"), "output_dir")
    file = roots.locate(str(root / "a" / "b" / "file"), "cad_path")
    shutil.rmtree(root / "a" / "b")
    (root / "a" / "b").symlink_to(outside)
    with pytest.raises(OSError), folder.folder(create=True):
        pass
    with pytest.raises(OSError):
        file.open_file()
    (root / "a" / "b").unlink()
    (root / "a" / "b").mkdir()
    (root / "a" / "b" / "file").symlink_to(outside / "file")
    with pytest.raises(OSError):
        file.open_file()
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_a_delivery_looks_at_the_roots_again(tmp_path: Path):
    root, outside, results = tmp_path / "root", tmp_path / "outside", tmp_path / "results"
    for folder in (root / "out", outside, results / "templates"):
        folder.mkdir(parents=True)
    (results / "templates.json").write_text('{"views": 1}')
    for name in ("rgb_0.png", "mask_0.png", "xyz_0.npy"):
        (results / "templates" / name).write_bytes(b"x")
    roots = Roots([root])
    (root / "out").rmdir()
    (root / "out").symlink_to(outside)
    with pytest.raises(InputError) as caught:
        place_templates(results, roots, str(root / "out"), direct=False, order_id="x")
    assert caught.value.code == "path_outside_roots"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("content", ['{"views": 2}', "{}"])
def test_an_incomplete_result_is_not_delivered(tmp_path: Path, content: str):
    from gnomon.errors import MethodError

    root, results = tmp_path / "root", tmp_path / "results"
    root.mkdir()
    (results / "templates").mkdir(parents=True)
    (results / "templates.json").write_text(content)
    for name in ("rgb_0.png", "mask_0.png", "xyz_0.npy"):
        (results / "templates" / name).write_bytes(b"x")
    with pytest.raises(MethodError, match="3 template files"):
        place_templates(results, Roots([root]), str(root / "out"), direct=False, order_id="x")
    assert list(root.iterdir()) == []
