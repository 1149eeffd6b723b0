"""Reading meshes: every format with its colours, everything that can be wrong with a file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import meshes
import numpy as np
import pytest
import trimesh
from PIL import Image

from gnomon.errors import InputError
from gnomon.formats.mesh_companions import companions
from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.surface import linear_to_srgb_bytes

CUBE = meshes.cube(2.0)
RGB = np.array([(10 * i, 255 - 10 * i, 5 * i) for i in range(8)], np.uint8)


def ascii_ply(path: Path, *, vertex: str = "", rows: str = "", face: str = "", faces: str = "", head: str = "") -> Path:
    """A PLY of two triangles with further columns."""
    corners = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    extra = [line.strip() for line in rows.strip().splitlines()] or [""] * 4
    lists = [line.strip() for line in faces.strip().splitlines()] or ["3 0 1 2", "3 0 2 3"]
    text = (
        f"ply\nformat ascii 1.0\n{head}element vertex 4\nproperty float x\nproperty float y\nproperty float z\n{vertex}"
    )
    text += f"element face {len(lists)}\nproperty list uchar int vertex_indices\n{face}end_header\n"
    text += "".join(f"{x} {y} {z} {more}\n" for (x, y, z), more in zip(corners, extra, strict=True))
    path.write_text(text + "".join(f"{line}\n" for line in lists))
    return path


def same_surface(mesh: Mesh, other: Mesh) -> bool:
    def canonical(mesh: Mesh) -> np.ndarray:
        # Each triangle begins with its smallest corner.
        corners = np.round(mesh.vertices[mesh.faces], 6) + 0.0
        first = np.lexsort(corners.transpose(2, 0, 1)[::-1], axis=-1)[:, 0]
        turned = np.stack([corners[np.arange(len(corners)), (first + k) % 3] for k in range(3)], axis=1).reshape(-1, 9)
        return turned[np.lexsort(turned.T)]

    return np.array_equal(canonical(mesh), canonical(other))


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cube.ply", "ascii.ply", "cube.stl", "ascii.stl", "cube.obj", "cube.glb", "CUBE.STL"])
def test_every_format_gives_the_same_cube(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source = trimesh.Trimesh(CUBE.vertices, CUBE.faces, process=False)
    kind = path.suffix[1:].lower()
    if name == "ascii.ply":
        path.write_bytes(trimesh.exchange.ply.export_ply(source, encoding="ascii"))
    elif name == "ascii.stl":
        path.write_text(trimesh.exchange.stl.export_stl_ascii(source))
    else:
        source.export(path, file_type=kind)
    mesh = load_mesh(path)
    assert same_surface(mesh, CUBE)
    assert len(mesh.vertices) == 8
    assert mesh.warnings == ()


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_ply_vertex_colours(tmp_path: Path, encoding: str) -> None:
    source = trimesh.Trimesh(CUBE.vertices, CUBE.faces, vertex_colors=RGB, process=False)
    path = tmp_path / "cube.ply"
    path.write_bytes(trimesh.exchange.ply.export_ply(source, encoding=encoding))
    mesh = load_mesh(path)
    assert mesh.vertex_rgb is not None
    assert np.array_equal(mesh.vertex_rgb, RGB)


def test_ply_big_endian_with_doubles_and_polygons_of_different_size(tmp_path: Path) -> None:
    header = (
        "ply\nformat binary_big_endian 1.0\nobj_info any\nelement vertex 5\nproperty double x\nproperty double y\n"
        "property double z\nelement face 2\nproperty list uchar uint vertex_index\nproperty uchar red\n"
        "property uchar green\nproperty uchar blue\nend_header\n"
    )
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 2, 0)]
    data = b"".join(struct.pack(">3d", *point) for point in points)
    data += struct.pack(">B4I3B", 4, 0, 1, 2, 3, 9, 8, 7) + struct.pack(">B3I3B", 3, 3, 2, 4, 1, 2, 3)
    (tmp_path / "mixed.ply").write_bytes(header.encode() + data)
    mesh = load_mesh(tmp_path / "mixed.ply")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 4]]
    assert mesh.face_rgb is not None
    assert mesh.face_rgb.tolist() == [[9, 8, 7], [9, 8, 7], [1, 2, 3]]


def test_ply_polygons_face_colours_and_normals_in_ascii(tmp_path: Path) -> None:
    columns = "".join(f"property float {name}\n" for name in ("nx", "ny", "nz"))
    colours = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    rows = "0 0 1\n" * 4
    quad = ascii_ply(
        tmp_path / "quad.ply", vertex=columns, rows=rows, face=colours, faces="4 0 1 2 3 1 2 3\n3 0 1 2 4 5 6"
    )
    mesh = load_mesh(quad)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert mesh.face_rgb is not None and mesh.face_rgb.tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6]]
    assert mesh.vertex_normals is not None and mesh.vertex_normals.tolist() == [[0, 0, 1]] * 4


def test_ply_elements_before_and_after_are_skipped(tmp_path: Path) -> None:
    path = ascii_ply(tmp_path / "more.ply")
    text = path.read_text().replace("element vertex", "element camera 2\nproperty float f\nelement vertex", 1)
    text = text.replace("end_header\n", "element edge 1\nproperty int a\nproperty int b\nend_header\n5\n6\n") + "0 1\n"
    path.write_text(text)
    assert load_mesh(path).faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def picture(path: Path) -> np.ndarray:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(rgb).save(path)
    return rgb


@pytest.mark.parametrize(("u", "v"), [("s", "t"), ("u", "v"), ("texture_u", "texture_v")])
def test_ply_textures_at_vertices(tmp_path: Path, u: str, v: str) -> None:
    rgb = picture(tmp_path / "my picture.png")
    path = ascii_ply(
        tmp_path / "textured.ply",
        head="comment TextureFile my picture.png\n",
        vertex=f"property float {u}\nproperty float {v}\n",
        rows="0 0\n1 0\n1 1\n0 1",
    )
    mesh = load_mesh(path)
    assert companions(path) == ["my picture.png"]
    assert mesh.uv is not None and mesh.uv.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert np.array_equal(mesh.textures[0], rgb)


def test_ply_textures_at_the_corners_of_faces(tmp_path: Path) -> None:
    picture(tmp_path / "p.png")
    path = ascii_ply(
        tmp_path / "textured.ply",
        head="comment TextureFile p.png\n",
        face="property list uchar float texcoord\n",
        faces="3 0 1 2 6 0 0 1 0 1 1\n3 0 2 3 6 .5 .5 .25 .25 0 .75",
    )
    mesh = load_mesh(path)
    assert mesh.uv is not None
    assert mesh.uv[mesh.faces].tolist() == [[[0, 0], [1, 0], [1, 1]], [[0.5, 0.5], [0.25, 0.25], [0, 0.75]]]
    assert mesh.vertices[mesh.faces[1, 2]].tolist() == [0, 1, 0]


def test_a_missing_texture_is_a_warning(tmp_path: Path) -> None:
    path = ascii_ply(
        tmp_path / "t.ply",
        head="comment TextureFile gone.png\n",
        vertex="property float s\nproperty float t\n",
        rows="0 0\n1 0\n1 1\n0 1",
    )
    mesh = load_mesh(path)
    assert mesh.textures == ()
    assert "gone.png" in mesh.warnings[0]


def write_obj(folder: Path, *, library: str = "two.mtl") -> Path:
    (folder / "two.obj").write_text(
        f"mtllib {library}\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl painted\nf 1/1 2/2 3/3 4/4\nusemtl plain\nf 1 2 5\n"
    )
    return folder / "two.obj"


def test_obj_with_two_materials(tmp_path: Path) -> None:
    rgb = picture(tmp_path / "paint.png")
    (tmp_path / "two.mtl").write_text("newmtl painted\nKd 1 1 1\nmap_Kd paint.png\nnewmtl plain\nKd 0.5 0.25 0\n")
    path = write_obj(tmp_path)
    mesh = load_mesh(path)
    assert companions(path) == ["two.mtl", "paint.png"]
    assert mesh.warnings == ()
    assert len(mesh.faces) == 3
    assert mesh.face_texture is not None and mesh.face_rgb is not None and mesh.uv is not None
    painted = mesh.face_texture == 0
    assert painted.sum() == 2
    assert np.array_equal(mesh.textures[0], rgb)
    assert np.array_equal(mesh.face_rgb[~painted][0], linear_to_srgb_bytes(np.array((0.5, 0.25, 0))))
    # uv still belong to their corners.
    corners = mesh.faces[painted].reshape(-1)
    assert np.array_equal(mesh.vertices[corners, :2], mesh.uv[corners])


def test_obj_without_its_material_file_is_drawn_with_a_warning(tmp_path: Path) -> None:
    mesh = load_mesh(write_obj(tmp_path))
    assert "two.mtl" in mesh.warnings[0]
    assert len(mesh.faces) == 3
    assert mesh.textures == ()


def test_obj_vertex_colours_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "groups.obj"
    path.write_text("o a\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\no b\nv 0 0 1 1 1 1\nf 1 2 4\n")
    mesh = load_mesh(path)
    assert len(mesh.faces) == 2
    assert mesh.vertex_rgb is not None
    assert {tuple(c) for c in mesh.vertex_rgb.tolist()} == {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)}


def test_glb_nodes_are_placed_and_joined(tmp_path: Path) -> None:
    body = trimesh.Trimesh(CUBE.vertices, CUBE.faces, process=False)
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 0, 255])
    body.visual = trimesh.visual.TextureVisuals(material=material)
    scene = trimesh.Scene()
    move = np.eye(4)
    move[:3, 3] = (10, 0, 0)
    mirror = np.diag((1.0, -2.0, 1.0, 1.0))
    scene.add_geometry(body, node_name="a", transform=move)
    scene.add_geometry(body, node_name="b", transform=mirror)
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb")
    assert len(mesh.faces) == 24
    assert mesh.vertices.max(axis=0).tolist() == [11, 2, 1]
    assert mesh.face_rgb is not None and (mesh.face_rgb == (255, 0, 0)).all()
    # Mirrored bodies keep facing outwards.
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum(axis=1)[12:].sum() / 6
    assert volume > 0 and (a * np.cross(b, c)).sum() > 0


def test_glb_textures_are_multiplied_by_their_factor(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.full((4, 4, 3), 200, np.uint8))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=rgb, baseColorFactor=[255, 0, 255, 255])
    body = trimesh.Trimesh([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)], process=False)
    body.visual = trimesh.visual.TextureVisuals(uv=[(0, 0), (1, 0), (0, 1)], material=material)
    trimesh.Scene(body).export(tmp_path / "t.glb")
    mesh = load_mesh(tmp_path / "t.glb")
    assert mesh.textures[0][0, 0].tolist() == [200, 0, 200]
    assert mesh.uv is not None and np.allclose(mesh.uv, [(0, 0), (1, 0), (0, 1)])


def test_gltf_companions(tmp_path: Path) -> None:
    uris = {"buffers": [{"uri": "a%20b.bin"}, {"uri": "data:x"}], "images": [{"uri": "tex/c.png"}, {"uri": "../d.png"}]}
    (tmp_path / "m.gltf").write_text(json.dumps(uris))
    assert companions(tmp_path / "m.gltf") == ["a b.bin", "tex/c.png"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.mtl", "C:\\x.mtl", "a/../../b.mtl", "http://x/y.mtl"])
def test_companions_outside_the_folder_are_left_out(tmp_path: Path, name: str) -> None:
    path = write_obj(tmp_path, library=name)
    assert companions(path) == []
    assert any("out of reach" in warning for warning in load_mesh(path).warnings)


def test_companions_in_folders_below_and_with_options(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "two.mtl").write_text(
        "newmtl painted\nmap_Kd -s 1 1 1 -clamp on paint me.png\nmap_Bump ../../bump.png\n"
    )
    assert companions(write_obj(tmp_path, library="m/two.mtl")) == ["m/two.mtl", "m/paint me.png"]


# --- errors ----------------------------------------------------------------------------------------------------------


def refused(path: Path, **limits: int) -> InputError:
    with pytest.raises(InputError) as caught:
        load_mesh(path, **limits)
    assert caught.value.field == "mesh"
    assert caught.value.value == path.name
    assert caught.value.fix and caught.value.expected
    return caught.value


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.ply").code == "mesh_not_found"
    (tmp_path / "dir.ply").mkdir()
    assert refused(tmp_path / "dir.ply").code == "mesh_not_found"


def test_unknown_extensions_list_the_known(tmp_path: Path) -> None:
    (tmp_path / "part.step").write_text("ISO-10303-21;")
    error = refused(tmp_path / "part.step")
    assert error.code == "mesh_format"
    assert error.fix is not None and ".obj" in error.fix


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".glb", ".gltf"])
@pytest.mark.parametrize("content", [b"\x00\xff rubbish \x93" * 30, b""], ids=["rubbish", "empty"])
def test_rubbish_is_unreadable_or_empty(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"bad{suffix}").write_bytes(content)
    assert refused(tmp_path / f"bad{suffix}").code in ("mesh_unreadable", "mesh_empty")


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_truncated_ply(tmp_path: Path, encoding: str) -> None:
    source = trimesh.Trimesh(CUBE.vertices, CUBE.faces, process=False)
    data = trimesh.exchange.ply.export_ply(source, encoding=encoding)
    for share in (0.3, 0.75, 0.9):
        (tmp_path / "cut.ply").write_bytes(data[: int(len(data) * share)])
        assert refused(tmp_path / "cut.ply").code == "mesh_unreadable"


def test_words_between_the_numbers(tmp_path: Path) -> None:
    path = ascii_ply(tmp_path / "words.ply")
    path.write_text(path.read_text().replace("1 1 0", "1 one 0"))
    assert refused(path).code == "mesh_unreadable"


def test_faces_that_use_missing_vertices(tmp_path: Path) -> None:
    assert refused(ascii_ply(tmp_path / "a.ply", faces="3 0 1 2\n3 0 1 4")).code == "mesh_unreadable"
    assert refused(ascii_ply(tmp_path / "b.ply", faces="3 0 1 2\n3 0 1 -1")).code == "mesh_unreadable"
    (tmp_path / "c.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    assert refused(tmp_path / "c.obj").code == "mesh_unreadable"


def test_no_vertices(tmp_path: Path) -> None:
    text = "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "none.ply").write_text(text)
    assert refused(tmp_path / "none.ply").code == "mesh_empty"
    (tmp_path / "none.obj").write_text("# nothing\n")
    assert refused(tmp_path / "none.obj").code in ("mesh_empty", "mesh_unreadable")


def test_point_clouds(tmp_path: Path) -> None:
    trimesh.PointCloud(CUBE.vertices).export(tmp_path / "points.ply")
    assert refused(tmp_path / "points.ply").code == "mesh_no_faces"
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    assert refused(tmp_path / "points.obj").code in ("mesh_no_faces", "mesh_unreadable", "mesh_empty")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_vertices_that_are_not_finite(tmp_path: Path, value: str) -> None:
    path = ascii_ply(tmp_path / "nan.ply")
    path.write_text(path.read_text().replace("1 1 0 ", f"1 {value} 0 "))
    error = refused(path)
    assert error.code == "mesh_not_finite"
    assert "1 of 4" in error.message and "vertex 2" in error.message


def test_surfaces_without_area(tmp_path: Path) -> None:
    assert refused(ascii_ply(tmp_path / "line.ply", faces="3 0 0 1\n3 1 2 2")).code == "mesh_degenerate"
    path = ascii_ply(tmp_path / "point.ply")
    head, _, data = path.read_text().partition("end_header\n")
    path.write_text(head + "end_header\n" + "1 1 1\n" * 4 + data.split("\n", 4)[4])
    assert refused(path).code == "mesh_degenerate"


def test_single_degenerate_triangles_and_loose_vertices_are_left_out(tmp_path: Path) -> None:
    mesh = load_mesh(ascii_ply(tmp_path / "some.ply", faces="3 0 1 1\n3 0 1 2"))
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert len(mesh.vertices) == 3
    assert any("1 triangles without area" in warning for warning in mesh.warnings)
    assert any("1 vertices that belong to no triangle" in warning for warning in mesh.warnings)


@pytest.mark.parametrize("name", ["m.ply", "m.stl", "m.obj", "m.glb"])
def test_too_many_triangles(tmp_path: Path, name: str) -> None:
    trimesh.Trimesh(CUBE.vertices, CUBE.faces, process=False).export(tmp_path / name)
    error = refused(tmp_path / name, max_triangles=11)
    assert error.code == "mesh_too_large"
    assert "12 triangles" in error.message and "11" in error.message
    assert error.fix is not None and "decimate" in error.fix
    assert len(load_mesh(tmp_path / name, max_triangles=12).faces) == 12


def test_headers_are_believed_before_the_data_is_read(tmp_path: Path) -> None:
    path = ascii_ply(tmp_path / "huge.ply")
    path.write_text(path.read_text().replace("element face 2", "element face 900000000000"))
    assert refused(path).code == "mesh_too_large"


def test_too_many_bytes(tmp_path: Path) -> None:
    assert refused(ascii_ply(tmp_path / "m.ply"), max_bytes=100).code == "mesh_too_large"


@pytest.mark.parametrize(
    ("name", "n_faces"),
    [
        ("bunny/bunny.ply", 16301),
        ("fuze_textured/fuze.obj", 1000),
        ("chair/chair_model.obj", 12756),
        ("duck_textured_glb/Duck.glb", 4212),
        ("featuretype_inch/featuretype.STL", 3476),
        ("cycloidal/cycloidal.ply", 43368),
    ],
)
def test_meshes_of_others(shared_data: Path, name: str, n_faces: int) -> None:
    path = shared_data / "meshes" / name
    if not path.is_file():
        pytest.skip("the shared meshes are not on this machine")
    assert len(load_mesh(path).faces) == n_faces
