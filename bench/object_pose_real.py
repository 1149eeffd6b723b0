"""Object poses in BOP scenes with true poses and visible masks, also with masks that are somewhat wrong.

    python bench/object_pose_real.py FOLDER... [--mask-errors] [--objects 5,8] [--json FILE]

A FOLDER is a scene in the BOP format, or a split of scenes, with models in it or beside it. Each object is estimated
from its visible mask; `--mask-errors` adds 24 wrong masks of each, 8 of a kind: dilated and eroded by 1 to 3 pixels
and moved by up to 1, and shifted by up to 3. Eggbox and glue of LINEMOD (objects 10 and 11) count as symmetric, as in
the BOP data sets; for these the column ADD(-S) holds ADD-S.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import object_pose_measures as measures

import gnomon
from gnomon.errors import InputError
from gnomon.formats import bop, bop_models
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.prepare import PoseModel, prepare

SYMMETRIC = (10, 11)
"""Objects of LINEMOD that look nearly the same after half a turn about z; not all models_info.json files say so."""

FEWEST_PIXELS = 100
"""Objects of which less is visible are left out."""


@dataclass(frozen=True, eq=False)
class Known:
    """A model that is ready."""

    ruler: measures.Ruler
    model: PoseModel
    symmetric: bool
    prepare_s: float


def main() -> None:
    arguments = _arguments()
    records: list[dict[str, Any]] = []
    for folder in arguments.folders:
        models = _models(folder, arguments)
        for scene in bop.read_split(folder):
            for image in scene.images:
                records += _image(image, models, folder.name, arguments)
        _print_folder(folder.name, models, [record for record in records if record["folder"] == folder.name])
    if arguments.json:
        head = {"machine": measures.machine(), "gnomon": gnomon.__version__}
        arguments.json.write_text(json.dumps(head | {"estimates": records}, indent=1) + "\n")


def _models(folder: Path, arguments: argparse.Namespace) -> dict[int, Known]:
    where = arguments.models or bop_models.find_models(folder)
    if where is None:
        raise SystemExit(f"no models in or beside {folder}; name their folder with --models")
    found = {}
    for obj_id, known in bop_models.read_models(where).items():
        if arguments.objects and obj_id not in arguments.objects:
            continue
        mesh, symmetries = known.mesh(), known.symmetries
        symmetric = not symmetries.is_trivial or obj_id in SYMMETRIC
        if symmetric and symmetries.is_trivial:
            symmetries = _half_turn(mesh)
        began = time.process_time()
        model = prepare(mesh)
        seconds = time.process_time() - began
        vertices = np.ascontiguousarray(mesh.vertices, np.float64)
        ruler = measures.Ruler(vertices, vertices, symmetries.transforms(), known.diameter_m)
        found[obj_id] = Known(ruler, model, symmetric, seconds)
    return found


def _half_turn(mesh: Mesh) -> Symmetries:
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    axis = Axis(np.array([0.0, 0, 1]), middle.astype(np.float64))
    return Symmetries(axis.rotation(np.pi)[None])


def _image(
    image: bop.BopImage, models: dict[int, Known], folder: str, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    rgb, depth_m, camera = image.read_rgb(), image.read_depth(), image.camera()
    records = []
    for truth in image.truths:
        known = models.get(truth.obj_id)
        if known is None or image.mask_path(truth.gt_id) is None:
            continue
        visible = image.read_mask(truth.gt_id)
        if visible.sum() < FEWEST_PIXELS:
            continue
        if not records:
            estimate(known.model, rgb, depth_m, visible, camera)  # so that nothing is compiled while measuring
        for kind, mask in masks_of(visible, arguments.mask_errors):
            record: dict[str, Any] = {"folder": folder, "im_id": image.im_id, "obj_id": truth.obj_id, "mask": kind}
            record |= {"visib_fract": truth.visib_fract, "visible_px": int(visible.sum())}
            began = time.process_time()
            try:
                found = estimate(known.model, rgb, depth_m, mask, camera)
            except InputError as error:
                records.append(record | {"error": error.code})
                continue
            record |= {"cpu_s": time.process_time() - began, "score": found.score, "state": found.state}
            record |= {"ambiguous": found.ambiguous}
            errors = known.ruler.errors(found.T_cam_obj, truth.T_cam_obj, camera)
            chosen = errors.adds if known.symmetric else errors.add
            records.append(record | measures.as_json(errors) | {"add_s": chosen})
    return records


def masks_of(visible: np.ndarray, with_errors: bool) -> Iterator[tuple[str, np.ndarray]]:
    """The mask as it is and, if asked for, 24 wrong ones: 8 of each kind, the same for every call."""
    import cv2

    yield "visible", visible
    if not with_errors:
        return
    rng = np.random.default_rng(0)
    for i in range(8):
        reach = 1 + i % 3
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        for kind, change in (("dilated", cv2.dilate), ("eroded", cv2.erode)):
            yield kind, _shifted(change(visible.astype(np.uint8), disc) > 0, *rng.integers(-1, 2, 2))
        yield "shifted", _shifted(visible, *rng.integers(-3, 4, 2))


def _shifted(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moved, with nothing coming in from the other side."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    rows, columns = rows + down, columns + right
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = np.zeros_like(mask)
    moved[rows[inside], columns[inside]] = True
    return moved


def _print_folder(name: str, models: dict[int, Known], records: list[dict[str, Any]]) -> None:
    print(f"\n{name}: estimates from the visible masks; errors in % of the diameter\n")
    print("| object | image | visible | pixels | ADD(-S) | ADD-S | MSSD | MSPD px | score | state | cpu s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    plain = [record for record in records if record["mask"] == "visible"]
    for record in plain:
        print(_line(record))
    seconds = {obj_id: f"{known.prepare_s:.2f}" for obj_id, known in models.items()}
    cpu = np.median([record["cpu_s"] for record in plain if "cpu_s" in record])
    print(f"\nADD(-S) below 10 %: {_hits(plain)}; median {cpu:.3f} cpu s; prepare cpu s by object: {seconds}")
    kinds = list(dict.fromkeys(record["mask"] for record in records))
    if len(kinds) > 1:
        print("\nADD(-S) below 10 % by mask and object\n")
        objects = sorted({record["obj_id"] for record in records})
        print("| mask | all | " + " | ".join(map(str, objects)) + " |\n|---|---|" + "---|" * len(objects))
        for kind in kinds:
            some = [record for record in records if record["mask"] == kind]
            cells = [_hits([record for record in some if record["obj_id"] == obj_id]) for obj_id in objects]
            print(f"| {kind} | {_hits(some)} | " + " | ".join(cells) + " |")


def _hits(records: list[dict[str, Any]]) -> str:
    return f"{sum(record.get('add_s', 1.0) < 0.1 for record in records)}/{len(records)}"


def _line(record: dict[str, Any]) -> str:
    share = record["visib_fract"]
    head = [str(record["obj_id"]), str(record["im_id"]), "-" if share is None else f"{share:.0%}"]
    head.append(str(record["visible_px"]))
    if "error" in record:
        return "| " + " | ".join([*head, record["error"], *[""] * 6]) + " |"
    errors = [f"{100 * record[name]:.1f}" for name in ("add_s", "adds", "mssd")]
    mspd = "-" if record["mspd_px"] is None else f"{record['mspd_px']:.1f}"
    state = record["state"] + (", ambiguous" if record["ambiguous"] else "")
    cells = [*head, *errors, mspd, f"{record['score']:.2f}", state, f"{record['cpu_s']:.3f}"]
    return "| " + " | ".join(cells) + " |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="BOP scenes or splits")
    parser.add_argument("--models", type=Path, help="folder of the models (default: in or beside the scene)")
    parser.add_argument("--mask-errors", action="store_true", help="also with 24 wrong masks of each object")
    parser.add_argument("--objects", type=lambda text: [int(part) for part in text.split(",")], help="only these ids")
    parser.add_argument("--json", type=Path, help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
