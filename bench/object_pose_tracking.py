"""An object followed through generated sequences: how close, how often lost, and what a frame costs.

    python bench/object_pose_tracking.py [--sequences N] [--frames N] [--shapes a,b] [--tuning] [--json FILE]

A sequence shows an object, or a camera around it, in smooth motion of hand-held speed with six degrees of freedom;
things pass in front of it (docs/synthetic.md). There is a mask for the first frame only. Sequences go through shapes
that nothing was tuned with, in turn; `--tuning` takes the others. The first frame is not counted.

Rotations are compared with the nearest symmetric true pose, positions at the centre of the object's box. `good` is
within 10 mm and 5 degrees. `false` is the share of frames that are called tracked although they are off by more than
20 mm or 10 degrees. `cpu ms` is processor time of a step, all threads.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import object_pose_measures as measures

import gnomon
from gnomon.errors import InputError, MethodError
from gnomon.evaluation.pose_errors import rotation_and_translation
from gnomon.geometry import se3
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.prepare import prepare
from gnomon.tasks.object_pose.tracker import Tracker
from gnomon.tasks.synthetic.sensor import DepthNoise
from gnomon.tasks.synthetic.sequences import Sequence, make_sequence
from gnomon.tasks.synthetic.shapes import REPORTING, TUNING, Shape, make_shape

SEED = 5000
TUNING_SEED = 1000

GOOD_M, GOOD_RAD = 0.010, np.radians(5)
FALSE_M, FALSE_RAD = 0.020, np.radians(10)

REPORTED = ("drill", "teapot", "spanner", "dining_chair", "two_handled_cup", "cereal_box", "hammer", "plug")
"""The first sequences show these, in this order: of all sizes and kinds. The other shapes follow."""


def main() -> None:
    measures.one_thread_each()
    arguments = _arguments()
    names = _names(arguments)
    seed = arguments.seed
    noise = DepthNoise(scale_bias=0) if arguments.no_scale_bias else DepthNoise()
    _warm_up(make_shape(names[0]))
    rows = []
    for at in range(arguments.sequences):
        name = names[at % len(names)]
        print(f"{at + 1}/{arguments.sequences} {name}", file=sys.stderr, flush=True)
        shape = make_shape(name)
        sequence = make_sequence(
            shape, seed + at, n_frames=arguments.frames, speed=arguments.speed or "hand_held", noise=noise
        )
        rows.append({"shape": name, "seed": seed + at, "frames": follow(shape, sequence)})
    print(f"\n{arguments.frames} frames per sequence; {measures.machine()}; one thread\n")
    _print(rows)
    if arguments.json:
        record = {"machine": measures.machine(), "gnomon": gnomon.__version__, "scale_bias": noise.scale_bias}
        record |= {"sequences": [row | figures(row["frames"]) for row in rows]}
        record["all"] = figures([frame for row in rows for frame in row["frames"]])
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def follow(shape: Shape, sequence: Sequence) -> list[dict[str, Any]]:
    """One record for each frame after the first."""
    centred, T_obj_centre = _about_centre(shape)
    tracker = Tracker(prepare(shape.mesh), sequence.camera, threads=1)
    first = sequence.frame(0)
    tracker.start(first.rgb, first.depth_m, sequence.mask)
    records = []
    for index in range(1, len(sequence)):
        frame = sequence.frame(index)
        cpu, wall = time.process_time(), time.perf_counter()
        found = tracker.step(frame.rgb, frame.depth_m)
        record: dict[str, Any] = {"cpu_ms": 1e3 * (time.process_time() - cpu)}
        record["wall_ms"] = 1e3 * (time.perf_counter() - wall)
        T_est, T_true = found.T_cam_obj @ T_obj_centre, frame.T_cam_obj @ T_obj_centre
        angle, shift = rotation_and_translation(T_est, T_true, centred)
        record |= {"rad": angle, "m": shift, "state": found.state, "score": found.score}
        records.append(record | {"visible_fraction": frame.visible_fraction})
    return records


def _about_centre(shape: Shape) -> tuple[Symmetries, np.ndarray]:
    """The shape's symmetries in a frame whose origin is the centre of its box, and that frame in the object's."""
    vertices = shape.mesh.vertices
    T_obj_centre = se3.se3(np.eye(3), (vertices.min(axis=0) + vertices.max(axis=0)).astype(np.float64) / 2)
    T_centre_obj = se3.inverse(T_obj_centre)
    axes = tuple(Axis(axis.direction, axis.offset_m + T_centre_obj[:3, 3]) for axis in shape.symmetries.continuous)
    return Symmetries(T_centre_obj @ shape.symmetries.discrete @ T_obj_centre, axes), T_obj_centre


def figures(frames: list[dict[str, Any]]) -> dict[str, float | int]:
    """Shares, medians and 95th percentiles over frames."""
    rad, m, cpu, wall = (np.array([frame[name] for frame in frames]) for name in ("rad", "m", "cpu_ms", "wall_ms"))
    states = np.array([frame["state"] for frame in frames])
    off = (m > FALSE_M) | (rad > FALSE_RAD)
    return {
        "count": len(frames),
        "good": float(((m < GOOD_M) & (rad < GOOD_RAD)).mean()),
        "median_mm": float(np.median(m) * 1e3),
        "p95_mm": float(np.percentile(m, 95) * 1e3),
        "median_deg": float(np.degrees(np.median(rad))),
        "p95_deg": float(np.degrees(np.percentile(rad, 95))),
        "cpu_ms": float(np.median(cpu)),
        "p95_cpu_ms": float(np.percentile(cpu, 95)),
        "wall_ms": float(np.median(wall)),
        "lost": int((states == "lost").sum()),
        "reacquired": int((states == "reacquired").sum()),
        "false": float(((states == "tracked") & off).mean()),
        "visible": float(np.mean([frame["visible_fraction"] for frame in frames])),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    print(
        "| sequence | frames | visible | good | mm median, 95 % | deg median, 95 % | cpu ms median, 95 % | wall ms |",
        end="",
    )
    print(" lost | reacquired | false |\n" + "|---" * 11 + "|")
    for row in rows:
        print(_line(f"{row['shape']} {row['seed']}", figures(row["frames"])))
    print(_line("**all**", figures([frame for row in rows for frame in row["frames"]])))


def _line(name: str, found: dict[str, float | int]) -> str:
    cells = [f"{found['count']}", f"{found['visible']:.0%}", f"{found['good']:.1%}"]
    cells += [f"{found['median_mm']:.1f}, {found['p95_mm']:.1f}", f"{found['median_deg']:.2f}, {found['p95_deg']:.2f}"]
    cells += [f"{found['cpu_ms']:.1f}, {found['p95_cpu_ms']:.1f}", f"{found['wall_ms']:.1f}"]
    cells += [f"{found['lost']}", f"{found['reacquired']}", f"{found['false']:.1%}"]
    return f"| {name} | " + " | ".join(cells) + " |"


def _warm_up(shape: Shape) -> None:
    """Both kinds of objects, and a frame in which the object is gone, so that nothing is compiled while measuring."""
    for some in (shape, make_shape("textured_can")):
        sequence = make_sequence(some, 0, n_frames=4)
        tracker = Tracker(prepare(some.mesh), sequence.camera, threads=1)
        first, last = sequence.frame(0), sequence.frame(3)
        try:
            tracker.start(first.rgb, first.depth_m, sequence.mask)
            tracker.step(last.rgb, last.depth_m)
            tracker.step(last.rgb, np.where(sequence.mask, np.float32(0.3), last.depth_m))
        except (InputError, MethodError) as error:
            print(f"warming up: {error}", file=sys.stderr)


def _names(arguments: argparse.Namespace) -> list[str]:
    if arguments.shapes:
        return arguments.shapes.split(",")
    if arguments.tuning:
        return list(TUNING)
    return [*REPORTED, *(name for name in REPORTING if name not in REPORTED)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=6, help="how many (default 6)")
    parser.add_argument("--frames", type=int, default=60, help="of each sequence (default 60)")
    parser.add_argument("--seed", type=int, help=f"of the first (default {SEED}; with --tuning {TUNING_SEED})")
    parser.add_argument("--shapes", help="only these, separated by commas")
    parser.add_argument("--tuning", action="store_true", help="shapes that were used for tuning, to try things")
    parser.add_argument("--speed", type=float, help="a factor on the hand-held speed")
    parser.add_argument("--no-scale-bias", action="store_true", help="a depth camera whose scale is right")
    parser.add_argument("--json", type=Path, help="result file")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = TUNING_SEED if arguments.tuning else SEED
    return arguments


if __name__ == "__main__":
    main()
