"""Bombs: small files that would become large."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import pytest
from PIL import Image

from gnomon.errors import InputError
from gnomon.server import bounds


def png_promising(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return bounds.PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, kind)
    return stream.getvalue()


PLY = """ply
format ascii 1.0
element vertex {}
property float x
element face {}
property list uchar int vertex_indices
end_header
"""


def check(name: str, data: bytes) -> None:
    bounds.check(name, io.BytesIO(data), len(data), field="files.x", most_pixels=1000, most_triangles=1000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_pixels_of_every_kind_of_picture_are_counted(kind):
    assert bounds.picture_pixels(io.BytesIO(encoded(kind))) == 1200
    with pytest.raises(InputError, match="1,200 pixels") as caught:
        check(f"x.{kind.lower()}" if kind != "JPEG" else "x.jpg", encoded(kind))
    assert caught.value.code == "too_many_pixels"


def test_a_picture_that_lies_about_its_kind_is_still_measured():
    with pytest.raises(InputError):
        check("x.png", encoded("JPEG"))


@pytest.mark.parametrize("counts", [(2000, 1), (1, 2000)])
def test_rows_that_a_ply_promises_are_counted(counts):
    with pytest.raises(InputError) as caught:
        check("x.ply", PLY.format(*counts).encode())
    assert caught.value.code == "too_many_triangles"


def test_a_binary_stl_is_counted_and_a_text_is_left_to_its_reader():
    data = bytes(80) + struct.pack("<I", 2000) + bytes(2000 * 50)
    with pytest.raises(InputError):
        check("x.stl", data)
    check("x.stl", b"solid x\n" + b" " * 200)


@pytest.mark.parametrize(
    ("name", "data"), [("x.png", b""), ("x.png", b"\x89PNG"), ("x.ply", b"ply\nnonsense"), ("x.stl", b"")]
)
def test_what_cannot_be_read_is_left_to_the_task(name, data):
    check(name, data)


def test_the_server_refuses_bombs_at_submission(http):
    for name, data, code in (
        ("b.png", png_promising(100_000, 100_000), "too_many_pixels"),
        ("b.ply", PLY.format(3, 4_000_000_000).encode(), "too_many_triangles"),
    ):
        sha256 = hashlib.sha256(data).hexdigest()
        http.put(f"/v1/files/{sha256}", content=data).raise_for_status()
        answer = http.post("/v1/jobs", json={"task": "probe", "params": {"data": name}, "files": {name: sha256}})
        assert (answer.status_code, answer.json()["code"]) == (413, code)
