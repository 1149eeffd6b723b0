"""Where the weights of `likelihood.WEIGHTS` and the threshold of ambiguity come from.

    python bench/object_pose_tuning.py [--trials N] [--seed S]

Tuning shapes only. Candidates of the last step are called right (within 6 % of the diameter, MSSD) or wrong (beyond
12 %), and a logistic regression on pairs of a right and a wrong one of the same picture says what each kind of pixel
is worth, in agreeing pixels. The weights in use were rounded from several such runs and kept to the signs that make
sense. The second table says how often the chosen pose was right, by its margin over the best different one.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from gnomon.evaluation.pose_errors import mssd
from gnomon.tasks.object_pose.methods.render_compare import likelihood, search
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.verdict import judge, pose_matrix
from gnomon.tasks.object_pose.prepare import prepare
from gnomon.tasks.synthetic.shapes import TUNING, Shape, make_shape
from gnomon.tasks.synthetic.trials import Trial, make_trial

KINDS = [name for name in likelihood.WEIGHTS if name not in ("ncc", "chroma")]
RIGHT, WRONG = 0.06, 0.12
MARGINS = (0, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, np.inf)


def errors(shape: Shape, model: PoseModel, trial: Trial, found: search.Candidates) -> np.ndarray:
    """MSSD of each candidate, in diameters."""
    step = max(len(shape.mesh.vertices) // 500, 1)
    points, symmetries = shape.mesh.vertices[::step], shape.symmetries.transforms(0.1)
    poses = [pose_matrix(model, R, t) for R, t in zip(found.R, found.t, strict=True)]
    return np.array([mssd(T, trial.T_cam_obj, points, symmetries) for T in poses]) / model.diameter_m


def fitted(differences: np.ndarray, weights: np.ndarray, ridge: float = 1e-4) -> np.ndarray:
    """Logistic regression without intercept, by Newton steps."""
    w = np.zeros(differences.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(np.clip(differences @ w, -30, 30)))
        gradient = -(weights * p) @ differences / weights.sum() + ridge * w
        curvature = (differences.T * (weights * p * (1 - p))) @ differences / weights.sum()
        w -= np.linalg.solve(curvature + ridge * np.eye(len(w)), gradient)
    return w


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="of each shape")
    parser.add_argument("--seed", type=int, default=1, help="of the first")
    options = parser.parse_args()
    columns = [likelihood.TERMS.index(name) for name in KINDS]
    pairs, weights, margins, right = [], [], [], []
    for name in TUNING:
        shape = make_shape(name)
        model = prepare(shape.mesh, symmetries=shape.symmetries)
        for seed in range(options.seed, options.seed + options.trials):
            trial = make_trial(shape, seed)
            found = search.find(
                model, trial.rgb, trial.depth_m, trial.mask, trial.camera, threads=1, effort=search.Effort()
            )
            error = errors(shape, model, trial, found)
            best = judge(model, found, seconds=0.0)
            margins.append(best.runner_up.margin if best.runner_up else np.inf)
            right.append(error[0] < 0.1)
            wrong = np.flatnonzero(error > WRONG)
            if model.textured or error.min() > RIGHT or not len(wrong):
                continue
            shares = found.terms[:, columns] / max(found.terms[:, likelihood.AGREE].max(), 1.0)
            pairs.append(shares[error.argmin()] - shares[wrong])
            weights.append(np.full(len(wrong), 1 / len(wrong)))
    w = fitted(np.concatenate(pairs), np.concatenate(weights))
    w /= w[KINDS.index("agree")]
    print(f"{'kind':>12}  fitted  in use")
    for name, value in zip(KINDS, w, strict=True):
        print(f"{name:>12}  {value:6.2f}  {likelihood.WEIGHTS[name]:6.2f}")
    print("\n      margin  trials  right")
    for low, high in itertools.pairwise(MARGINS):
        inside = (np.array(margins) >= low) & (np.array(margins) < high)
        share = f"{np.array(right)[inside].mean():.2f}" if inside.any() else "-"
        print(f"{low:6.4f} ..{high:6.4f}  {inside.sum():4d}  {share}")


if __name__ == "__main__":
    main()
