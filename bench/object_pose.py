"""Object poses from generated pictures: gnomon, Open3D and small_gicp on the same trials, side by side.

    python bench/object_pose.py [--trials N] [--real DIR] [--shapes a,b] [--tuning] [--reject] [--json FILE]

Every trial is a picture of one object among clutter, hidden by up to `--occlusion`, with a depth camera's faults and
a mask's errors (docs/synthetic.md). Shapes are those that nothing was tuned with; `--tuning` takes the others.
`cpu s` is the median processor time of an estimate, all threads; `prepare` is spent once per object. Peers that are
not installed are left out with the reason: `pip install open3d small_gicp`.

`wrong` is MSSD of 10 % of the diameter or more; `unflagged` is the share of all trials that are wrong and neither
called lost nor ambiguous. Some wrong poses show the camera the same thing as the true one, for instance a mug whose
handle is hidden; the second table leaves those trials out. A wrong pose of an object without colours is such a one if,
drawn into the true scene without faults, it contradicts that scene at hardly more pixels than right answers do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import object_pose_measures as measures

import gnomon
from gnomon.geometry.view import draw_view
from gnomon.tasks.object_pose.estimate import estimate
from gnomon.tasks.object_pose.methods.render_compare.verdict import FOUND
from gnomon.tasks.object_pose.prepare import PoseModel, prepare
from gnomon.tasks.synthetic.real_shapes import real_shapes
from gnomon.tasks.synthetic.shapes import REPORTING, TUNING, Shape, make_shape
from gnomon.tasks.synthetic.trials import Trial, make_trial, prepared_shape

SEED = 5000
"""Of the first trial of each object in reported figures."""

TUNING_SEED = 1000

OURS = "gnomon"
WRONG = 0.1
SAME_M = 0.004
"""Depths that differ by less agree."""

LEAST_EXCESS_PX, LEAST_EXCESS = 12, 0.012
"""A wrong pose shows something else if it contradicts more pixels than right ones do, by the larger of this number and
this share of the visible ones."""


@dataclass
class Outcome:
    """One method on one trial."""

    seed: int
    errors: measures.Errors
    cpu_s: float
    score: float
    lost: bool
    ambiguous: bool
    visible_px: int
    contradicted_px: int
    same_to_the_eye: bool = False

    @property
    def wrong(self) -> bool:
        """Whether the pose is not the true one."""
        return not self.errors.mssd < WRONG


@dataclass
class Row:
    """One method on one object."""

    shape: str
    method: str
    coloured: bool
    prepare_s: float = float("nan")
    outcomes: list[Outcome] = field(default_factory=list)

    def figures(self) -> dict[str, float | None]:
        """Shares and medians over the trials."""
        outcomes = self.outcomes
        wrong = [outcome for outcome in outcomes if outcome.wrong]
        flagged = [outcome for outcome in wrong if outcome.lost or outcome.ambiguous]
        share = 1 / len(outcomes)
        different = [outcome for outcome in outcomes if not (outcome.wrong and outcome.same_to_the_eye)]
        found = measures.summary([outcome.errors for outcome in outcomes]) | {
            "cpu_s": statistics.median(outcome.cpu_s for outcome in outcomes),
            "prepare_s": self.prepare_s,
            "lost": share * sum(outcome.lost for outcome in outcomes),
            "ambiguous": share * sum(outcome.ambiguous for outcome in outcomes),
            "wrong_flagged": len(flagged) / len(wrong) if wrong else None,
            "unflagged": share * (len(wrong) - len(flagged)),
            "indistinguishable": share * (len(outcomes) - len(different)),
        }
        told_apart = measures.summary([outcome.errors for outcome in different])
        return found | {f"distinct_{name}": value for name, value in told_apart.items()}


Method = Callable[[Trial], tuple[np.ndarray, float, bool, bool]]
"""T_cam_obj, score, lost, ambiguous."""


def main() -> None:
    measures.one_thread_each()
    arguments = _arguments()
    shapes = _shapes(arguments)
    import object_pose_peers as peers

    skipped = {name: reason for name in peers.PACKAGES if (reason := peers.why_not(name))}
    if arguments.ours_only:
        skipped = dict.fromkeys(peers.PACKAGES, "not asked for")
    models = {shape.name: prepare(shape.mesh) for shape in shapes[:1]}  # compiles what is needed
    _warm_up(shapes[0], models[shapes[0].name], arguments)
    rows: list[Row] = []
    rejected: list[tuple[float, float]] = []
    for at, shape in enumerate(shapes):
        print(f"{at + 1}/{len(shapes)} {shape.name}", file=sys.stderr, flush=True)
        some, other = bench_shape(shape, shapes[(at + 1) % len(shapes)], skipped, arguments)
        rows += some
        rejected += other
    _print(rows, skipped, arguments)
    if rejected:
        print(rejection(rejected)["text"])
    if arguments.json:
        arguments.json.write_text(json.dumps(_record(rows, skipped, rejected, arguments), indent=1) + "\n")


def bench_shape(
    shape: Shape, other: Shape, skipped: dict[str, str], arguments: argparse.Namespace
) -> tuple[list[Row], list[tuple[float, float]]]:
    """All methods on all trials of one object; scores with its own model and with another object's, if asked for."""
    import object_pose_peers as peers

    ruler = measures.ruler(shape.mesh, shape.symmetries)
    coloured = shape.is_coloured
    model, seconds = _timed(lambda: prepare(shape.mesh))
    methods: list[tuple[Row, Method]] = [(Row(shape.name, OURS, coloured, seconds), _ours(model))]
    for name in peers.PACKAGES:
        if name not in skipped:
            built, seconds = _timed(lambda name=name: peers.build(name, shape.mesh, ruler.diameter_m))
            methods.append((Row(shape.name, name, coloured, seconds), _peer(built)))
    strange = _ours(prepare(other.mesh)) if arguments.reject else None
    scores = []
    for seed in range(arguments.seed, arguments.seed + arguments.trials):
        trial = _trial(shape, seed, arguments)
        for row, method in methods:
            (T_est, score, lost, ambiguous), cpu_s = _timed(lambda method=method, trial=trial: method(trial))
            errors = ruler.errors(T_est, trial.T_cam_obj, trial.camera)
            contradicted = contradictions(shape, T_est, trial)
            visible = int(trial.true_visible_mask.sum())
            row.outcomes.append(Outcome(seed, errors, cpu_s, score, lost, ambiguous, visible, contradicted))
        if strange is not None:
            scores.append((methods[0][0].outcomes[-1].score, strange(trial)[1]))
    if not coloured:
        _mark_same([row for row, _ in methods])
    return [row for row, _ in methods], scores


def contradictions(shape: Shape, T_est: np.ndarray, trial: Trial) -> int:
    """How many pixels of the true scene, without faults, an estimate is at odds with.

    The estimate is first moved along its line of sight to where the scene is, at the median: no method can know the
    wrong scale of a picture's depths.
    """
    scene, visible = trial.true_depth_m, trial.true_visible_mask
    drawn = draw_view(prepared_shape(shape), T_est, trial.camera, colour=False).depth_m
    both = visible & (drawn > 0)
    if both.any():
        moved = T_est.copy()
        moved[:3, 3] += T_est[:3, 3] * float(np.median(scene[both] - drawn[both])) / max(T_est[2, 3], 0.01)
        drawn = draw_view(prepared_shape(shape), moved, trial.camera, colour=False).depth_m
    covered = drawn > 0
    agrees = covered & (np.abs(drawn - scene) <= SAME_M)
    before = covered & (drawn < scene - SAME_M)
    return int((before | (visible & ~agrees) | (agrees & ~visible)).sum())


def _mark_same(rows: list[Row]) -> None:
    """Wrong answers that contradict the scene hardly more than gnomon's right ones of that object do.

    Contradictions of right answers are taken as a share of the visible pixels, because trials differ in size.
    """
    right = [outcome.contradicted_px / outcome.visible_px for outcome in rows[0].outcomes if not outcome.wrong]
    usual = statistics.median(right) if right else 0.0
    for row in rows:
        for outcome in row.outcomes:
            excess = outcome.contradicted_px - usual * outcome.visible_px
            limit = max(LEAST_EXCESS_PX, LEAST_EXCESS * outcome.visible_px)
            outcome.same_to_the_eye = outcome.wrong and excess < limit


def rejection(scores: list[tuple[float, float]]) -> dict[str, Any]:
    """How well the score tells an object from another one: each pair is of its own model and of a wrong one."""
    own, strange = np.array(scores).T
    above = (own[:, None] > strange[None]).mean() + 0.5 * (own[:, None] == strange[None]).mean()
    found = {"trials": len(own), "auc": float(above), "threshold": FOUND}
    found |= {"accepted_own": float((own >= FOUND).mean()), "accepted_wrong": float((strange >= FOUND).mean())}
    found["text"] = (
        f"\nwrong objects, {len(own)} trials with another object's model: area under the curve {above:.3f}; at the "
        f"threshold {FOUND} {found['accepted_own']:.1%} of right and {found['accepted_wrong']:.1%} of wrong ones pass"
    )
    return found


def _ours(model: PoseModel) -> Method:
    def run(trial: Trial) -> tuple[np.ndarray, float, bool, bool]:
        found = estimate(model, trial.rgb, trial.depth_m, trial.mask, trial.camera, threads=1)
        return found.T_cam_obj, found.score, not found.found, found.ambiguous

    return run


def _peer(built: Any) -> Method:
    def run(trial: Trial) -> tuple[np.ndarray, float, bool, bool]:
        T_cam_obj, score = built(trial.depth_m, trial.mask, trial.camera)
        return T_cam_obj, score, False, False

    return run


def _warm_up(shape: Shape, model: PoseModel, arguments: argparse.Namespace) -> None:
    """Both kinds of objects, so that nothing is compiled while measuring."""
    _ours(model)(_trial(shape, arguments.seed - 1, arguments))
    coloured = make_shape("textured_can")
    _ours(prepare(coloured.mesh))(_trial(coloured, arguments.seed - 1, arguments))


def _trial(shape: Shape, seed: int, arguments: argparse.Namespace) -> Trial:
    return make_trial(shape, seed, occlusion=(0.0, arguments.occlusion), mask_mode=arguments.mask_mode)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def _shapes(arguments: argparse.Namespace) -> list[Shape]:
    names = TUNING if arguments.tuning else REPORTING
    shapes = [make_shape(name) for name in names]
    if arguments.real and not arguments.tuning:
        shapes += real_shapes(arguments.real)
    if arguments.shapes:
        wanted = arguments.shapes.split(",")
        if unknown := set(wanted) - {shape.name for shape in shapes}:
            raise SystemExit(f"no such shapes here: {', '.join(sorted(unknown))}")
        shapes = [shape for shape in shapes if shape.name in wanted]
    return shapes


_RAW = {
    "MSSD 5": "mssd5", "10": "mssd10", "20 %": "mssd20", "ADD-S 5": "adds5", "10 %": "adds10", "AR_MSSD": "ar_mssd",
    "AR_MSPD": "ar_mspd", "cpu s": "cpu_s", "prepare": "prepare_s", "lost": "lost", "ambiguous": "ambiguous",
    "wrong: flagged": "wrong_flagged", "unflagged": "unflagged",
}  # fmt: skip
_DISTINCT = {
    "left out": "indistinguishable", "MSSD 5": "distinct_mssd5", "10": "distinct_mssd10", "20 %": "distinct_mssd20",
    "AR_MSSD": "distinct_ar_mssd",
}  # fmt: skip


def _print(rows: list[Row], skipped: dict[str, str], arguments: argparse.Namespace) -> None:
    head = f"{arguments.trials} trials per object from seed {arguments.seed}, occlusion up to {arguments.occlusion}"
    print(f"\n{head}, masks {arguments.mask_mode}; {measures.machine()}; one thread")
    for name, reason in skipped.items():
        print(f"{name} skipped: {reason}")
    for title, columns in (("all trials", _RAW), ("without indistinguishable wrong poses", _DISTINCT)):
        print(
            f"\n**{title}**\n\n| object | method | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|"
        )
        for row in rows:
            print(_line(row.shape, row.method, row.figures(), columns))
        for method in dict.fromkeys(row.method for row in rows):
            print(_line("**mean**", method, _mean(rows, method), columns))


def _mean(rows: list[Row], method: str) -> dict[str, float | None]:
    return measures.mean_of([row.figures() for row in rows if row.method == method])


def _line(shape: str, method: str, figures: dict[str, float | None], columns: dict[str, str]) -> str:
    cells = ["-" if (value := figures.get(name)) is None else f"{value:.2f}" for name in columns.values()]
    return f"| {shape} | {method} | " + " | ".join(cells) + " |"


def _record(
    rows: list[Row], skipped: dict[str, str], rejected: list[tuple[float, float]], arguments: argparse.Namespace
) -> dict[str, Any]:
    packages = ["numpy", "numba", *(name for name in ("open3d", "small_gicp") if name not in str(skipped))]
    versions = {name: importlib.metadata.version(name) for name in packages} | {"gnomon": gnomon.__version__}
    record: dict[str, Any] = {"machine": measures.machine(), "versions": versions, "skipped": skipped}
    record |= {name: value for name, value in vars(arguments).items() if name not in ("json", "real")}
    record["mean"] = {method: _mean(rows, method) for method in dict.fromkeys(row.method for row in rows)}
    record["rejection"] = rejection(rejected) if rejected else None
    record["rows"] = [
        {"shape": row.shape, "method": row.method, "coloured": row.coloured}
        | row.figures()
        | {"trials": [vars(outcome) | {"errors": measures.as_json(outcome.errors)} for outcome in row.outcomes]}
        for row in rows
    ]
    return record


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="pictures of each object (default 10)")
    parser.add_argument("--seed", type=int, help=f"of the first trial (default {SEED}; with --tuning {TUNING_SEED})")
    parser.add_argument("--occlusion", type=float, default=0.35, help="most of the object that is hidden")
    modes = ("standard", "exact", "over_segmented", "under_segmented")
    parser.add_argument("--mask-mode", choices=modes, default="standard", help="errors of the masks")
    parser.add_argument("--shapes", help="only these, separated by commas")
    parser.add_argument(
        "--real", type=Path, metavar="DIR", help="also the mesh files of real_shapes.REAL in this folder"
    )
    parser.add_argument("--tuning", action="store_true", help="shapes that were used for tuning, to try things")
    parser.add_argument("--reject", action="store_true", help="also estimate each trial with another object's model")
    parser.add_argument("--ours-only", action="store_true", help="leave the peers out")
    parser.add_argument("--json", type=Path, help="result file")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = TUNING_SEED if arguments.tuning else SEED
    return arguments


if __name__ == "__main__":
    main()
