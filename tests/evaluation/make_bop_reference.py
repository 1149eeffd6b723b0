"""Writes bop_reference.json: what bop_toolkit says about the cases of bop_cases.py, and about one real image.

    PYTHONPATH=BOP_TOOLKIT python make_bop_reference.py COMMIT CSV LMO_FOLDER

BOP_TOOLKIT is a checkout of github.com/thodan/bop_toolkit at COMMIT with its requirements, CSV the results file
bop_toolkit_lib/tests/data/results_sub/cnos-fastsammegapose_lmo-test_....csv in it, LMO_FOLDER a single-image folder of
LM-O scene 2, image 3. Nothing of bop_toolkit is used when the tests run.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import numpy as np
from bop_cases import (
    ALL_THRESHOLDS,
    DELTA_MM,
    MATCH_SEEDS,
    SEEDS,
    SYMMETRY_STEP,
    make_case,
    make_match_case,
)
from bop_toolkit_lib import misc, pose_error, pose_matching, score

TAUS = list(np.arange(0.05, 0.51, 0.05))
EXTRA_SYMMETRIES = {
    10: [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
    11: [-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
}


class Renderer:
    """Hands out depth pictures in the order in which vsd asks: estimated, true."""

    def __init__(self, *depths):
        self.depths = list(depths)

    def render_object(self, *_):
        return {"depth": self.depths.pop(0)}


def parts(T):
    return T[:3, :3], T[:3, 3:4]


def metrics(seed):
    case = make_case(seed)
    syms = misc.get_symmetry_transformations(case.info, SYMMETRY_STEP)
    est, gt = parts(case.T_est), parts(case.T_gt)
    renderer = Renderer(case.depth_est, case.depth_gt)
    diameter = case.info["diameter"]
    picked = [0, len(syms) // 3, len(syms) // 2, len(syms) - 1]
    return {
        "add": pose_error.add(*est, *gt, case.points),
        "adi": pose_error.adi(*est, *gt, case.points),
        "mssd": pose_error.mssd(*est, *gt, case.points, syms),
        "mspd": pose_error.mspd(*est, *gt, case.K, case.points, syms),
        "re": pose_error.re(est[0], gt[0]),
        "te": pose_error.te(est[1], gt[1]),
        "vsd": pose_error.vsd(
            *est, *gt, case.depth_measured, case.K, DELTA_MM, TAUS, True, diameter, renderer, 1, "step"
        ),
        "symmetries": len(syms),
        "symmetries_picked": {i: np.hstack([syms[i]["R"], syms[i]["t"]]).reshape(-1).tolist() for i in picked},
    }


def matching(seed):
    errors, scores, valid = make_match_case(seed)
    records = [
        {
            "est_id": i,
            "score": scores[i],
            "errors": {g: [e] for g, e in enumerate(row)},
            "gt_visib_fracts": dict.fromkeys(range(len(valid)), 1.0),
        }
        for i, row in enumerate(errors)
    ]
    found = {}
    for threshold in ALL_THRESHOLDS:
        matches = pose_matching.match_poses(records, [threshold], 0, valid.tolist())
        found[str(threshold)] = sorted([m["gt_id"], m["est_id"]] for m in matches)
    return found


def real_image(csv, folder):
    """Errors and average recalls for one image, by bop_toolkit, of depth that gnomon draws."""
    from gnomon.formats import bop, bop_models
    from gnomon.geometry.view import draw_view, prepare_view

    image = bop.read_scene(folder).images[0]
    rows = [line for line in csv.read_text().splitlines() if line.startswith("2,3,")]
    estimates = [line.split(",") for line in rows]
    camera, models = image.camera(), bop_models.read_models(folder / "models")
    depth_mm = image.read_depth().astype(np.float64) * 1000
    records = []
    for truth in image.truths:
        model = models[truth.obj_id]
        mesh = model.mesh()
        view, pts = prepare_view(mesh), mesh.vertices * 1000
        extra = EXTRA_SYMMETRIES.get(truth.obj_id)
        syms = misc.get_symmetry_transformations({"symmetries_discrete": [extra]} if extra else {}, 0.01)
        own = sorted((e for e in estimates if int(e[2]) == truth.obj_id), key=lambda e: -float(e[3]))
        R, t = np.array(own[0][4].split(), float).reshape(3, 3), np.array(own[0][5].split(), float).reshape(3, 1)
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, t[:, 0] / 1000
        drawn = [draw_view(view, pose, camera, colour=False).depth_m * 1000.0 for pose in (T, truth.T_cam_obj)]
        gt = truth.T_cam_obj[:3, :3], truth.T_cam_obj[:3, 3:4] * 1000
        d = model.diameter_m * 1000
        records.append(
            {
                "obj_id": truth.obj_id,
                "add": pose_error.add(R, t, *gt, pts),
                "adi": pose_error.adi(R, t, *gt, pts),
                "mssd": pose_error.mssd(R, t, *gt, pts, syms),
                "mspd": pose_error.mspd(R, t, *gt, camera.K, pts, syms),
                "vsd": pose_error.vsd(
                    R, t, *gt, depth_mm, camera.K, DELTA_MM, TAUS, True, d, Renderer(*drawn), 1, "step"
                ),
                "diameter": d,
            }
        )
    return {"rows": rows, "extra_symmetries": EXTRA_SYMMETRIES, "errors": records, "recalls": recalls(records)}


def recalls(records):
    def recall(errors, threshold):
        matches = [
            {"valid": True, "obj_id": r["obj_id"], "scene_id": 2, "im_id": 3, "est_id": 0 if e < threshold else -1}
            for r, e in zip(records, errors, strict=True)
        ]
        ids = [r["obj_id"] for r in records]
        return score.calc_localization_scores([2], ids, matches, -1, do_print=False)["recall"]

    fractions = np.arange(0.05, 0.51, 0.05)
    mssd = [recall([r["mssd"] / r["diameter"] for r in records], th) for th in fractions]
    mspd = [recall([r["mspd"] for r in records], th) for th in np.arange(5, 51, 5)]
    vsd = [recall([r["vsd"][k] for r in records], th) for k in range(len(TAUS)) for th in fractions]
    return {"mssd": np.mean(mssd), "mspd": np.mean(mspd), "vsd": np.mean(vsd)}


def main():
    commit, csv, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    reference = {
        "origin": {
            "repository": "github.com/thodan/bop_toolkit (MIT)",
            "commit": commit,
            "date": datetime.date.today().isoformat(),
            "metrics": "pose_error.add, adi, mssd, mspd, re, te, vsd and misc.get_symmetry_transformations on "
            "bop_cases.make_case(seed); millimetres, degrees, pixels",
            "matching": "pose_matching.match_poses on bop_cases.make_match_case(seed): [gt_id, est_id]",
            "real_image": "rows of LM-O scene 2 image 3 of " + csv.name + "; errors by pose_error of depth drawn by "
            "gnomon; recalls by score.calc_localization_scores",
        },
        "metrics": {seed: metrics(seed) for seed in SEEDS},
        "matching": {seed: matching(seed) for seed in MATCH_SEEDS},
        "real_image": real_image(csv, folder),
    }
    Path(__file__).with_name("bop_reference.json").write_text(json.dumps(reference, indent=1) + "\n")


if __name__ == "__main__":
    main()
