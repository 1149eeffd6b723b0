"""The command line of object-pose: several files after a flag, scene folders, what is said at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pose_scenes import write_scene

from gnomon.api import Home
from gnomon.cli import cli
from gnomon.cli.flags import _spread
from gnomon.errors import InputError


def run(*words: Any):
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    return write_scene(tmp_path / "scene", 2)


def flags_of(scene: dict[str, Any]) -> list[str]:
    words = []
    for name, value in scene.items():
        words += [f"--{name}", *(value if isinstance(value, list) else [value])]
    return words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rgb", "a", "b", "--fps", "3"], ["--rgb", "a", "--rgb", "b", "--fps", "3"]),
        (["--rgb", "a", "--rgb", "b"], ["--rgb", "a", "--rgb", "b"]),
        (["--rgb=a", "b"], ["--rgb=a", "b"]),
        (["--track", "x"], ["--track", "x"]),
        (["--rgb", "a", "--", "b"], ["--rgb", "a", "--", "b"]),
    ],
)
def test_a_flag_may_be_followed_by_several_values(words: list[str], expected: list[str]):
    assert _spread(words, {"--rgb"}) == expected


def test_files_after_a_flag_become_one_request(scene: dict[str, Any]):
    done = run("submit", "object-pose", *flags_of(scene), "--json")
    assert done.exception is None, done.output
    home = Home()
    job = home.job(json.loads(done.output)["id"])
    request = job.request()
    job.cancel()
    job.wait(timeout_s=60)
    home.close()
    assert request.params["rgb"] == ["rgb/0000/000000.png", "rgb/0001/000001.png"]
    assert [file.name for file in request.inputs if file.name.startswith("mesh")] == ["mesh/0000/mug.ply"]


def test_a_run_ends_with_a_line_for_each_object(scene: dict[str, Any], tmp_path: Path):
    done = run("object-pose", *flags_of(scene), "-o", tmp_path / "out", "--no-video", "-q")
    assert done.exception is None and not done.return_value, done.output
    assert "mug: found in 2 of 2 frames" in done.output
    assert (tmp_path / "out" / "ob_in_cam" / "000001.txt").is_file()


def test_a_scene_folder_takes_the_place_of_files(scene: dict[str, Any], tmp_path: Path):
    folder = Path(scene["camera"]).parent
    (folder / "masks").mkdir()
    (folder / "mask" / "000000.png").rename(folder / "masks" / "000000.png")
    (folder / "mesh").mkdir()
    (folder / "mesh" / "mug.ply").write_bytes(Path(scene["mesh"][0]).read_bytes())
    (folder / "cam_K.txt").write_text("460 0 239.5\n0 460 179.5\n0 0 1\n")
    words = ["object-pose", "--scene", folder, "-o", tmp_path / "out", "--no-video", "-q"]
    # The mesh of a saved request is in metres, and this one is not.
    done = run(*words)
    assert isinstance(done.exception, InputError) and done.exception.code == "unit_implausible"
    done = run(*words, "--mesh-unit", "mm")
    assert done.exception is None and "found in 2 of 2" in done.output


def test_mistakes_are_named(scene: dict[str, Any], tmp_path: Path):
    for words, code in (
        (["--scene", tmp_path / "none"], "input_not_found"),
        (["--scene", tmp_path], "scene_layout"),
        (["--models", tmp_path], "field_missing"),
        (flags_of(scene | {"depth": scene["depth"][:1]}), "counts_differ"),
        (flags_of({"rgb": scene["rgb"]}), "field_missing"),
    ):
        done = run("object-pose", *words)
        assert isinstance(done.exception, InputError) and done.exception.code == code, done.output
