"""What 42 templates of 512 x 512 cost: the drawing against other engines, the whole job, and the first call.

    python bench/templates.py [--mesh PATH] [--repeat N] [--full] [--json PATH]

Every row draws the same views of the same mesh; repetitions go round through all rows, so that a busy machine
disturbs them alike. `cpu` is user + system time of all threads and child processes. Totals include `prepare`,
what an engine does once per mesh (sorting triangles, building a tree, compiling shaders, starting Blender);
`cpu ms / view` excludes it. Ratios are taken within each round against the first row of the group and their
median is shown. Peers that are not installed are left out with the reason: `pip install embreex moderngl
pyrender`, `gnomon methods install blender`.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import template_peers as peers
from clock import Cost, adopt_orphans, measure, measure_command

from gnomon import environments, paths
from gnomon.geometry.mesh import Mesh
from gnomon.tasks.templates.make import make_set
from gnomon.tasks.templates.methods import raster
from gnomon.tasks.templates.methods.blender_environment import ENVIRONMENT
from gnomon.tasks.templates.read import read_mesh
from gnomon.tasks.templates.scene import RenderOptions, TemplateView
from gnomon.tasks.templates.spec import Templates
from gnomon.tasks.templates.views import view_poses

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_MESH = REPOSITORY.parent / "shared/data/object_pose/lmo_000002_000003/models/obj_000005.ply"
DEFAULT_JSON = REPOSITORY / "bench/results/templates.json"
TRIANGLES = 45_666
"""Of the made-up mesh: as many as the LINEMOD watering can has."""
CYCLES_VIEWS = 4
"""Views that Blender draws unless --full is given; the others are taken to cost as much as the last three."""

Draw = Callable[[Mesh, np.ndarray], Iterator[TemplateView]]


@dataclass
class Row:
    """One line of the table and its measurements."""

    group: str
    name: str
    note: str = ""
    skipped: str = ""
    prepare: list[Cost] = field(default_factory=list)
    total: list[Cost] = field(default_factory=list)
    mask_iou: float | None = None


def main() -> None:
    arguments = _arguments()
    adopt_orphans()
    mesh, mesh_name = _load(arguments.mesh)
    poses = view_poses(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gnomon-bench-") as name:
        folder = Path(name)
        for label, subject in (("mesh", mesh), ("fine mesh", _subdivided(mesh, 2))):
            group = f"{label}, {len(subject.faces):,} triangles"
            rows += bench_drawing(f"drawing: {group}", subject, poses, arguments)
            file = _write(subject, folder / f"{len(subject.faces)}.ply")
            rows += bench_job(f"job with files: {group}", file, poses, folder, arguments)
        rows += bench_first_call(folder)
    record = {"machine": _machine(), "mesh": mesh_name, "threads": arguments.threads, "repeat": arguments.repeat}
    print(f"\n{mesh_name}; {record['machine']}; {arguments.threads} threads; {arguments.repeat} rounds\n")
    print(_table(rows))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record | {"rows": [_as_json(row, rows) for row in rows]}, indent=1) + "\n")
    print(f"\nwritten to {arguments.json}")


def bench_drawing(group: str, mesh: Mesh, poses: np.ndarray, arguments: argparse.Namespace) -> list[Row]:
    """Drawing into arrays alone: from a loaded mesh to all maps of all views, nothing read or written."""
    threads = arguments.threads
    engines: list[tuple[Row, Draw]] = [
        (Row(group, "gnomon"), functools.partial(_raster, supersample=2, threads=threads)),
        (Row(group, "gnomon, 1 sample"), functools.partial(_raster, supersample=1, threads=threads)),
        (_peer(group, "embree + NumPy", "embreex", "1 thread"), peers.embree),
        (_peer(group, "OpenGL (EGL)", "moderngl", _renderer_name()), peers.opengl),
        (_peer(group, "pyrender (EGL)", "pyrender", "own shading, 4 samples, soft masks"), peers.pyrender),
    ]
    working = [(row, draw) for row, draw in engines if _works(row, draw, mesh, poses)]
    reference = [view.mask for view in working[0][1](mesh, poses)]
    for row, draw in working:
        row.mask_iou = _mean_iou(reference, draw(mesh, poses))
    for _ in range(arguments.repeat):
        for row, draw in working:
            _progress(row)
            row.prepare.append(measure(lambda draw=draw: _drain(draw(mesh, poses[:0]))))
            row.total.append(measure(lambda draw=draw: _drain(draw(mesh, poses))))
    return [*(row for row, _ in engines), bench_cycles(group, mesh, poses, arguments)]


def bench_cycles(group: str, mesh: Mesh, poses: np.ndarray, arguments: argparse.Namespace) -> Row:
    """Blender once: it is slow enough to be measured well, and too slow to be measured often."""
    row = Row(group, "Blender Cycles, 50 samples", note="method blender, 1 round")
    if not environments.is_ready(ENVIRONMENT, paths.cache_dir()):
        row.skipped = "not installed: gnomon methods install blender"
        return row
    draw = functools.partial(peers.cycles, threads=arguments.threads)
    _progress(row)
    first = measure(lambda: _drain(draw(mesh, poses[:1])))
    if arguments.full:
        row.total.append(measure(lambda: _drain(draw(mesh, poses))))
        each = (row.total[0] - first).times(1 / (len(poses) - 1))
    else:
        some = measure(lambda: _drain(draw(mesh, poses[:CYCLES_VIEWS])))
        each = (some - first).times(1 / (CYCLES_VIEWS - 1))
        row.total.append(some + each.times(len(poses) - CYCLES_VIEWS))
        row.note += f", from {CYCLES_VIEWS} views"
    row.prepare.append(first - each)  # includes the tree, which Blender builds with its first view
    return row


def bench_job(group: str, mesh_file: Path, poses: np.ndarray, folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Mesh file to template files: in this process, and by the command with its job, report and fresh caches."""
    inside = Row(group, "gnomon, in process", note="load, draw, write 126 files")
    command = Row(group, "gnomon templates", note="the command, kernels compiled before")
    for round_number in range(arguments.repeat):
        _progress(inside)
        out = folder / f"{mesh_file.stem}-{round_number}"
        out.mkdir()
        make = functools.partial(_make, mesh_file, out, poses, arguments.threads)
        inside.total.append(measure(make))
        _progress(command)
        command.total.append(_measure_cli(mesh_file, folder / f"{out.name}-cli", arguments.threads))
    return [inside, command]


def bench_first_call(folder: Path) -> list[Row]:
    """A new process that draws one small view: with nothing compiled yet, and with the compiled kernels on disk."""
    rows = [Row("first call", "nothing compiled"), Row("first call", "compiled before")]
    code = "from gnomon.tasks.templates.methods import raster; raster.warm_up()"
    variables = {"NUMBA_CACHE_DIR": str(folder / "numba")}
    for row in rows:
        _progress(row)
        row.total.append(measure_command([sys.executable, "-c", code], variables))
    return rows


def _raster(mesh: Mesh, poses: np.ndarray, *, supersample: int, threads: int) -> Iterator[TemplateView]:
    for _, view in raster.render(mesh, poses, RenderOptions(supersample=supersample), threads=threads):
        yield view


def _make(mesh_file: Path, out: Path, poses: np.ndarray, threads: int) -> None:
    spec = Templates(mesh=[str(mesh_file)])
    make_set(mesh_file, out, spec, poses, threads=threads, cache_root=out / "cache", on_view=lambda: None)


def _measure_cli(mesh_file: Path, work: Path, threads: int) -> Cost:
    command = [sys.executable, "-m", "gnomon", "templates", str(mesh_file), "-o", str(work / "out")]
    # A home and a cache of its own: nothing is taken from an earlier run.
    variables = {"GNOMON_HOME": str(work / "home"), "GNOMON_CACHE": str(work / "cache")}
    return measure_command([*command, "--cpus", str(threads), "--quiet"], variables)


def _peer(group: str, name: str, package: str, note: str) -> Row:
    row = Row(group, name, note)
    if importlib.util.find_spec(package) is None:
        row.skipped = f"not installed: pip install {package}"
    return row


def _works(row: Row, draw: Draw, mesh: Mesh, poses: np.ndarray) -> bool:
    """Draw one view, which also loads and compiles what is needed; note in its row why a peer cannot."""
    if row.skipped:
        return False
    try:
        _drain(draw(mesh, poses[:1]))
    except Exception as error:
        if row.name.startswith("gnomon"):
            raise
        row.skipped = f"does not run here: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
        return False
    return True


def _renderer_name() -> str:
    try:
        import moderngl

        context = moderngl.create_context(standalone=True, backend="egl")
        name = str(context.info["GL_RENDERER"])
        context.release()
    except Exception:
        return ""
    return name


def _drain(views: Iterator[TemplateView]) -> None:
    for _ in views:
        pass


def _mean_iou(reference: list[np.ndarray], views: Iterator[TemplateView]) -> float:
    shares = []
    for mask, view in zip(reference, views, strict=True):
        both, either = np.count_nonzero(mask & view.mask), np.count_nonzero(mask | view.mask)
        shares.append(both / either if either else 1.0)
    return float(np.mean(shares))


def _load(path: Path | None) -> tuple[Mesh, str]:
    if path is None and DEFAULT_MESH.is_file():
        path = DEFAULT_MESH
    if path is None:
        mesh = _blob(TRIANGLES)
        return mesh, f"a made-up mesh of {len(mesh.faces):,} triangles"
    mesh = read_mesh(path)
    return mesh, f"{path.name}, {len(mesh.faces):,} triangles"


def _blob(triangles: int) -> Mesh:
    """A closed, dented torus with vertex colours, about 200 mm across."""
    n = round((triangles / 2) ** 0.5)
    i, j = (grid.ravel() for grid in np.mgrid[0:n, 0:n])
    a, b = 2 * np.pi * i / n, 2 * np.pi * j / n
    radius = 32 + 6 * np.sin(5 * a) * np.cos(3 * b)
    ring = 68 + radius * np.cos(b)
    vertices = np.column_stack([ring * np.cos(a), ring * np.sin(a), radius * np.sin(b)])
    right, up = (i + 1) % n, (j + 1) % n
    lower = np.column_stack([i * n + j, right * n + j, right * n + up])
    upper = np.column_stack([i * n + j, right * n + up, i * n + up])
    rgb = 128 + 100 * np.column_stack([np.sin(a), np.cos(2 * b), np.sin(a + b)])
    return Mesh(vertices=vertices, faces=np.vstack([lower, upper]), vertex_rgb=rgb.astype(np.uint8))


def _subdivided(mesh: Mesh, times: int) -> Mesh:
    """The same surface with each triangle cut into four, `times` times."""
    import trimesh

    vertices, faces = mesh.vertices, mesh.faces
    rgb = np.full((len(vertices), 3), 230.0) if mesh.vertex_rgb is None else mesh.vertex_rgb.astype(float)
    for _ in range(times):
        attributes = {"rgb": rgb}
        vertices, faces, attributes = trimesh.remesh.subdivide(vertices, faces, vertex_attributes=attributes)
        rgb = attributes["rgb"]
    return Mesh(vertices=vertices, faces=faces, vertex_rgb=np.round(rgb).astype(np.uint8))


def _write(mesh: Mesh, path: Path) -> Path:
    """A binary PLY with vertex colours."""
    import trimesh

    trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.vertex_rgb, process=False).export(path)
    return path


def _table(rows: list[Row]) -> str:
    lines = [
        "| | cpu s, min / median | wall s, min / median | prepare cpu s | cpu ms / view | cpu ratio | mask IoU | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(f"| **{group}** | | | | | | | |")
        cells = [f"skipped: {row.skipped}", *[""] * 5] if row.skipped else _cells(_as_json(row, rows))
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {row.note} |")
    return "\n".join(lines)


def _cells(record: dict[str, Any]) -> list[str]:
    def shown(key: str, form: str) -> str:
        return format(record[key], form) if record.get(key) is not None else ""

    return [
        f"{record['cpu_s_min']:.3f} / {record['cpu_s_median']:.3f}",
        f"{record['wall_s_min']:.3f} / {record['wall_s_median']:.3f}",
        shown("prepare_cpu_s_min", ".3f"),
        shown("view_cpu_ms_min", ".2f"),
        shown("cpu_ratio", ".2f"),
        shown("mask_iou", ".5f"),
    ]


def _as_json(row: Row, rows: list[Row]) -> dict[str, Any]:
    record: dict[str, Any] = {"group": row.group, "name": row.name, "note": row.note}
    if row.skipped:
        return record | {"skipped": row.skipped}
    cpu, wall = [cost.cpu_s for cost in row.total], [cost.wall_s for cost in row.total]
    record |= {"cpu_s": cpu, "wall_s": wall, "cpu_s_min": min(cpu), "cpu_s_median": statistics.median(cpu)}
    record |= {"wall_s_min": min(wall), "wall_s_median": statistics.median(wall), "mask_iou": row.mask_iou}
    if row.prepare:
        views = [total.cpu_s - prepare.cpu_s for total, prepare in zip(row.total, row.prepare, strict=True)]
        record["prepare_cpu_s_min"] = min(cost.cpu_s for cost in row.prepare)
        record["view_cpu_ms_min"] = min(views) / len(view_poses(0)) * 1e3
    record["cpu_ratio"] = _ratio(row, rows)
    return record


def _ratio(row: Row, rows: list[Row]) -> float:
    """Median over the rounds of cost / the first row's cost; a row measured once is divided by the median."""
    first = next(other for other in rows if other.group == row.group)
    base = [cost.cpu_s for cost in first.total]
    if len(base) != len(row.total):
        base = [statistics.median(base)] * len(row.total)
    return statistics.median(cost.cpu_s / ours for cost, ours in zip(row.total, base, strict=True))


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def _progress(row: Row) -> None:
    print(f"{row.group}: {row.name}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, help="mesh to draw (default: LINEMOD object 5 if found, else made up)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: all cores)")
    parser.add_argument("--full", action="store_true", help="let Blender draw all views instead of a few")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON, help=f"result file (default {DEFAULT_JSON})")
    return parser.parse_args()


if __name__ == "__main__":
    main()
