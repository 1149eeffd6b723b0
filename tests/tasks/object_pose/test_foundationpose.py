"""Method `foundationpose`: what is said when parts are missing, and the exchange with a stand-in for its container.

FoundationPose itself needs a GPU and weights that only its users may have. So these tests show that both sides of the
exchange fit each other and what becomes of errors; they do not show that its networks find anything.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from pose_scenes import write_scene

from gnomon.api import Home
from gnomon.cli import cli
from gnomon.errors import InputError, MethodError, MissingError
from gnomon.request import Resources
from gnomon.tasks import get_task
from gnomon.tasks.object_pose.methods import foundationpose, foundationpose_setup
from gnomon.tasks.object_pose.spec import ObjectPose

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "containers" / "foundationpose" / "run_foundationpose.py"
STUB = Path(__file__).with_name("foundationpose_stub")
LIMIT_S = 180.0


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    return write_scene(tmp_path / "scene")


@pytest.fixture
def truth(scene: dict[str, Any]) -> list[Any]:
    return json.loads((Path(scene["camera"]).parent / "truth.json").read_text())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "machine", monkeypatch)


class Machine:
    """A machine that has everything: stand-ins for Apptainer, driver and image, and a folder of weights."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.image, self.weights = folder / "bin", folder / "image.sif", folder / "weights"
        self.bin.mkdir(parents=True)
        shutil.copy(STUB / "apptainer", self.bin / "apptainer")
        (self.bin / "nvidia-smi").write_text("#!/bin/sh\n")
        (self.bin / "nvidia-smi").chmod(0o755)
        for name in foundationpose_setup.CHECKPOINTS:
            (self.weights / name).mkdir(parents=True)
            for file in foundationpose_setup.CHECKPOINT_FILES:
                (self.weights / name / file).write_text("weights")
        self.write_image({"/opt/gnomon/run_foundationpose.py": str(SCRIPT), "/opt/FoundationPose": str(STUB)})
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("STANDIN_PYTHON", sys.executable)
        monkeypatch.setenv(foundationpose_setup.IMAGE_VARIABLE, str(self.image))
        monkeypatch.setenv(foundationpose_setup.WEIGHTS_VARIABLE, str(self.weights))

    def write_image(self, content: dict[str, str]) -> None:
        magic = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC"
        self.image.write_bytes(magic.ljust(64, b"\0") + json.dumps(content).encode())

    def answers(self, register: list[Any], track_one: list[Any] = ()) -> None:
        answers = {"register": list(register), "track_one": list(track_one)}
        (self.weights / "answers.json").write_text(json.dumps(answers))


def run(home: Home, scene: dict[str, Any], **options: Any):
    spec = ObjectPose.parse(**scene, method="foundationpose", overlay=False, video=False, **options)
    return home.submit(spec, resources=Resources(cpus=1, mem_gb=4, timeout_s=LIMIT_S), max_attempts=1)


# What is missing


def test_everything_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(foundationpose_setup, "DRIVER", tmp_path / "no-driver")
    absent = foundationpose_setup.missing(tmp_path)
    assert len(absent) == 5
    for part in ("apptainer", "NVIDIA", "foundationpose.sif", "2023-10-28-18-33-37", "2024-01-11-20-02-45"):
        assert any(part in text for text in absent)


def test_only_the_weights_that_lack_are_named(machine: Machine, tmp_path: Path):
    assert foundationpose_setup.missing(tmp_path) == []
    (machine.weights / "2024-01-11-20-02-45" / "model_best.pth").unlink()
    (text,) = foundationpose_setup.missing(tmp_path)
    assert "scorer" in text and "{model_best.pth}" in text


def test_check_and_install_say_what_to_do(tmp_path: Path):
    done = CliRunner().invoke(cli, ["methods", "check", "foundationpose"], standalone_mode=False)
    assert done.return_value == 3
    assert "foundationpose.sif" in done.output and "docs/methods.md" in done.output
    with pytest.raises(MissingError) as error:
        get_task("object-pose").method("foundationpose").install(tmp_path, print)
    assert error.value.code == "method_not_installed" and "NVlabs/FoundationPose" in (error.value.fix or "")


def test_a_job_is_refused_where_it_cannot_run(home: Home, scene: dict[str, Any]):
    with pytest.raises(MissingError) as error:
        run(home, scene)
    assert error.value.code == "method_not_installed"


# The exchange


def test_poses_of_a_sequence_come_back(
    home: Home, machine: Machine, scene: dict[str, Any], truth: list[Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    machine.answers(truth[:1], truth[1:])
    job = run(home, scene)
    result = job.result(timeout_s=LIMIT_S)
    assert [frame.objects[0].state for frame in result.frames] == ["estimated", "tracked", "tracked"]
    np.testing.assert_allclose(result.poses("mug"), truth, atol=1e-6)
    # The mesh lies where the depth says, so our score of a true pose is high.
    assert min(frame.objects[0].score for frame in result.frames) > 0.9
    np.testing.assert_allclose(np.loadtxt(job.results / "ob_in_cam" / "000002.txt"), truth[2], atol=1e-6)
    assert not list(job.results.glob(".*")), "nothing of the exchange is left"


def test_a_wrong_pose_is_called_lost(home: Home, machine: Machine, scene: dict[str, Any], truth: list[Any]):
    wrong = np.array(truth[1])
    wrong[:3, 3] += [0.1, 0, -0.1]
    machine.answers(truth[:1], [wrong.tolist(), truth[2]])
    result = run(home, scene).result(timeout_s=LIMIT_S)
    assert [frame.objects[0].state for frame in result.frames] == ["estimated", "lost", "tracked"]
    assert np.isnan(result.poses("mug")[1]).all()


def test_too_little_depth_is_an_error_and_no_unit_pose(home: Home, machine: Machine, scene: dict[str, Any]):
    machine.answers([None])
    job = run(home, scene)
    with pytest.raises(MethodError) as error:
        job.result(timeout_s=LIMIT_S)
    assert error.value.code == "method_failed" and "too little depth" in error.value.message


def test_every_mask_by_itself(home: Home, machine: Machine, scene: dict[str, Any], truth: list[Any], tmp_path: Path):
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((360, 480), np.uint8)).save(empty)
    masks = sorted(str(path) for path in (tmp_path / "scene" / "mask").iterdir())
    machine.answers([truth[0], truth[2]])
    scene["mask"] = [masks[0], str(empty), masks[2]]
    result = run(home, scene, track=False).result(timeout_s=LIMIT_S)
    first, second, third = (frame.objects[0] for frame in result.frames)
    assert (first.state, second.state, third.state) == ("estimated", "failed", "estimated")
    assert second.error is not None and second.error["code"] == "mask_empty"


def test_a_crash_inside_shows_its_last_lines(home: Home, machine: Machine, scene: dict[str, Any]):
    machine.answers(["crash"])
    with pytest.raises(MethodError) as error:
        run(home, scene).result(timeout_s=LIMIT_S)
    assert error.value.code == "method_failed" and "no kernel image is available" in error.value.message


def test_an_early_end_is_noticed(home: Home, machine: Machine, scene: dict[str, Any]):
    machine.answers(["leave"])
    with pytest.raises(MethodError) as error:
        run(home, scene).result(timeout_s=LIMIT_S)
    assert error.value.code == "poses_missing"


def test_an_answer_that_is_no_pose_is_refused(home: Home, machine: Machine, scene: dict[str, Any], truth: list[Any]):
    machine.answers(truth[:1], [np.diag([1, 1, -1, 1]).tolist(), truth[2]])
    result = run(home, scene).result(timeout_s=LIMIT_S)
    entry = result.frames[1].objects[0]
    assert entry.state == "failed" and entry.error is not None and entry.error["code"] == "poses_not_rigid"


def test_a_file_that_is_no_image_is_named_by_apptainer(home: Home, machine: Machine, scene: dict[str, Any]):
    machine.image.write_bytes(b"not an image")
    with pytest.raises(MethodError) as error:
        run(home, scene).result(timeout_s=LIMIT_S)
    assert "image format not recognized" in error.value.message


# The call


def test_the_call_binds_three_folders_and_nothing_else():
    paths = [Path(f"/a/{name}") for name in ("image.sif", "weights", "exchange", "tmp", "home")]
    words = foundationpose.command("/usr/bin/apptainer", *paths)
    assert words[:4] == ["/usr/bin/apptainer", "exec", "--nv", "--containall"]
    binds = [words[i + 1] for i, word in enumerate(words) if word == "--bind"]
    assert binds == ["/a/exchange:/exchange", "/a/weights:/opt/FoundationPose/weights:ro"]
    assert words[-4:] == ["/a/image.sif", "python", "/opt/gnomon/run_foundationpose.py", "/exchange"]


def test_a_path_that_would_become_two_binds_is_refused():
    paths = [Path(f"/a/{name}") for name in ("image.sif", "weights", "x:/etc", "tmp", "home")]
    with pytest.raises(InputError) as error:
        foundationpose.command("/usr/bin/apptainer", *paths)
    assert error.value.code == "path_not_bindable"


def test_gpu_choices_of_a_scheduler_reach_the_container(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    variables = foundationpose._variables()
    assert variables["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "1,0"
    assert not any(name.startswith(("GNOMON_", "PYTHON")) for name in variables)


# The entry script by itself


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(STUB))
    for name in ("estimater", "nvdiffrast", "nvdiffrast.torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("run_foundationpose", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_meshes_come_to_the_renderer_in_a_form_it_takes(script: Any, tmp_path: Path):
    import trimesh

    library = script.load_library()
    plain = trimesh.creation.box((40, 50, 60))
    plain.export(tmp_path / "plain.stl")
    mesh = library.mesh(tmp_path / "plain.stl", 0.001)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), (0.04, 0.05, 0.06), atol=1e-6)
    assert mesh.visual.vertex_colors.shape == (len(mesh.vertices), 4)
    # A material without a picture, as many CAD programs write it.
    (tmp_path / "red.mtl").write_text("newmtl red\nKd 1 0 0\n")
    (tmp_path / "red.obj").write_text("mtllib red.mtl\nusemtl red\nv 0 0 0\nv 9 0 0\nv 0 9 0\nf 1 2 3\n")
    mesh = library.mesh(tmp_path / "red.obj", 0.001)
    assert type(mesh.visual).__name__ == "ColorVisuals"
    assert mesh.visual.vertex_colors[0, :3].tolist() == [255, 0, 0]


def test_a_texture_survives(script: Any, tmp_path: Path):
    Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8)).save(tmp_path / "green.png")
    (tmp_path / "green.mtl").write_text("newmtl green\nmap_Kd green.png\n")
    (tmp_path / "green.obj").write_text(
        "mtllib green.mtl\nusemtl green\nv 0 0 0\nv 9 0 0\nv 0 9 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
    )
    mesh = script.load_library().mesh(tmp_path / "green.obj", 1.0)
    assert mesh.visual.material.image.convert("RGB").getpixel((0, 0)) == (10, 200, 30)


def test_another_protocol_is_refused(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "job.json").write_text(json.dumps({"protocol": 99}))
    assert script.main([str(tmp_path)]) == 3
    assert "build the image again" in capsys.readouterr().err
    assert script.main([]) == 2


def test_the_entry_script_runs_on_the_containers_python():
    """Its Python is 3.8: no syntax of later ones."""
    import ast

    ast.parse(SCRIPT.read_text("utf-8"), feature_version=(3, 8))
