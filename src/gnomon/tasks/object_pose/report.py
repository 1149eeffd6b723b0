"""report.html of a pose job: pictures with the poses, a line for each object, curves over the frames."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from gnomon import report
from gnomon.tasks.object_pose.make_overlays import DrawnFiles
from gnomon.tasks.object_pose.plot import Series, line_plot
from gnomon.tasks.object_pose.spec import ObjectPose, ObjectPoseResult, ObjectSummary

MOST_PICTURES = 12
MOST_ROWS = 200
MOST_PLOTS = 12
FILES = {"rgb", "depth", "mask", "mesh", "camera", "models_info", "detections", "im_id", "mask_frame", "mask_mesh"}


def write(out: Path, spec: ObjectPose, result: ObjectPoseResult, drawn: DrawnFiles) -> None:
    """Write out/report.html."""
    names = [item.name for item in result.objects]
    title = names[0] if len(names) == 1 else f"{len(names)} objects"
    frames = f"{len(result.frames)} frames" if len(result.frames) > 1 else "1 frame"
    lead = f"{frames}, method {spec.method}, " + ("tracked" if spec.track else "every mask by itself")
    sections = [_objects(result), _pictures(result, drawn)]
    if len(result.frames) > 1:
        sections.append(_curves(result))
    sections += [_doubts(result), _table(result), report.section("Request", report.facts(_request(spec)))]
    report.write_page(out / "report.html", f"Object pose: {title}", lead, [text for text in sections if text])


def _objects(result: ObjectPoseResult) -> str:
    columns = [
        "object",
        "mesh",
        "across, mm",
        "symmetries",
        "found",
        "lost",
        "failed",
        "ambiguous",
        "score",
        "ms a frame",
    ]
    notes = [report.note(f"{item.name}: {text}", bad=True) for item in result.objects if (text := _problem(item))]
    notes += [report.note(f"{item.name}: {text}") for item in result.objects for text in item.warnings]
    return report.section("Objects", report.table(columns, [_row(item) for item in result.objects]), *notes)


def _row(item: ObjectSummary) -> tuple[str, ...]:
    return (
        item.name,
        item.mesh,
        f"{item.diameter_m * 1e3:,.1f}",
        item.symmetries,
        f"{item.found} of {item.frames}",
        str(item.lost),
        str(item.failed),
        str(item.ambiguous),
        f"{item.median_score:.3f}",
        f"{item.median_seconds * 1e3:.0f}",
    )


def _problem(item: ObjectSummary) -> str:
    if item.error is not None:
        fix = f" {item.error['fix']}" if item.error.get("fix") else ""
        return f"{item.error['message']} [{item.error['code']}].{fix}"
    if item.lost:
        shown = ", ".join(item.lost_frames[:20]) + (", ..." if item.lost > 20 else "")
        return (
            f"lost in {item.lost} of {item.frames} frames: {shown}. Poses there are guesses and are not in the files."
        )
    return ""


def _pictures(result: ObjectPoseResult, drawn: DrawnFiles) -> str:
    parts = []
    if drawn.video is not None:
        source = f'src="{escape(drawn.video)}" style="max-width: 100%"'
        parts.append(f'<p><video {source} controls muted loop preload="metadata"></video></p>')
    chosen = sorted(drawn.overlays)
    if len(chosen) > MOST_PICTURES:
        picked = np.linspace(0, len(chosen) - 1, MOST_PICTURES).round().astype(int)
        chosen = [chosen[i] for i in picked]
    shown = [report.picture(drawn.overlays[i], f"poses in frame {result.frames[i].name}") for i in chosen]
    if shown:
        least = "300px" if len(shown) > 1 else "100%"
        grid = f"display: grid; gap: 0 .8rem; grid-template-columns: repeat(auto-fill, minmax({least}, 1fr))"
        parts.append(f'<div style="{grid}">{"".join(shown)}</div>')
    if not parts:
        return ""
    lead = "Outline of the mesh at its pose; axes x red, y green, z blue. Dashed red: lost. A ?: ambiguous."
    return report.section("Pictures", report.note(lead), *parts)


def _curves(result: ObjectPoseResult) -> str:
    """Score of all objects, and the position of each."""
    frames = [frame.frame_index for frame in result.frames]
    scores = [Series(item.name, frames, _scores(result, item.name)) for item in result.objects[:MOST_PLOTS]]
    parts = [line_plot("score", scores, low=0.0, high=1.0)]
    for item in result.objects[:MOST_PLOTS]:
        t_mm = result.poses(item.name)[:, :3, 3] * 1e3
        series = [Series(axis, frames, t_mm[:, i].tolist()) for i, axis in enumerate(("x", "y", "z"))]
        parts.append(line_plot(f"{item.name}: position in the camera's frame, mm", series))
    return report.section("Over the frames", *parts)


def _scores(result: ObjectPoseResult, name: str) -> list[float]:
    by_name = [{entry.object: entry for entry in frame.objects} for frame in result.frames]
    return [row[name].score if name in row and row[name].state != "failed" else float("nan") for row in by_name]


def _doubts(result: ObjectPoseResult) -> str:
    """Where another pose fits about as well."""
    rows = [
        (frame.name, entry.object, f"{entry.score:.3f}", f"{entry.runner_up.margin:.3f}" if entry.runner_up else "")
        for frame in result.frames
        for entry in frame.objects
        if entry.ambiguous and entry.found
    ]
    if not rows:
        return ""
    text = (
        "In these frames a pose that differs by more than a tenth of the object explains the picture about as well. "
        "It is runner_up in poses.json; margin is how much worse it is, in units of the score."
    )
    return report.section("Ambiguous", report.note(text), _cut(("frame", "object", "score", "margin"), rows))


def _table(result: ObjectPoseResult) -> str:
    rows = []
    for frame in result.frames:
        for entry in frame.objects:
            t_mm = "" if entry.pose is None else ", ".join(f"{value * 1e3:.1f}" for value in entry.pose[:3, 3])
            code = f"failed: {entry.error['code']}" if entry.error else entry.state
            rows.append((frame.name, entry.object, code, f"{entry.score:.3f}", t_mm, f"{entry.seconds * 1e3:.0f}"))
    return report.section("Poses", _cut(("frame", "object", "state", "score", "position, mm", "ms"), rows))


def _cut(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    left = len(rows) - MOST_ROWS
    more = report.note(f"{left} more rows are in poses.json") if left > 0 else ""
    return report.table(columns, rows[:MOST_ROWS]) + more


def _request(spec: ObjectPose) -> list[tuple[str, str]]:
    fields = spec.model_dump(mode="json", exclude=FILES, exclude_none=True)
    words = {True: "yes", False: "no"}
    return [(name, words[value] if isinstance(value, bool) else str(value)) for name, value in fields.items()]
