"""The steps of `templates`: for each mesh look into the cache, else read, check, render, write and describe it."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gnomon import atomic, geometry
from gnomon.context import Context, Outcome, step_key
from gnomon.errors import GnomonError, InputError, MethodError, from_dict
from gnomon.geometry.kernel_cache import is_cold
from gnomon.result_cache import ResultCache
from gnomon.tasks.templates.spec import Templates, TemplateSet

RENDERER_VERSION = 4
"""Counted up whenever the same request gives other bytes, so that cached sets of older code are not used."""

SINGLE = "set"
"""Where the set of a job's only mesh is made, before its files move up to the top of the results."""

NOT_IN_KEY = {"mesh", "camera_poses", "allow_any_size"}


@dataclass(frozen=True)
class Item:
    """One mesh of the request: its place, its input's name and the name of its results."""

    index: int
    input: str
    name: str


def run(spec: Templates, context: Context) -> Outcome:
    """Make a template set of every mesh. One bad mesh fails alone, unless it is the only one."""
    from gnomon.tasks.templates import report

    context.begin("render", 1, 2)
    if is_cold(Path(geometry.__file__).parent):
        context.message("compiling the kernels; this happens once and takes about 20 s of CPU")
    items = name_items(spec.mesh)
    job = TemplatesJob(spec, context, alone=len(items) == 1)
    sets = job.make_all(items)
    if job.alone:
        _hoist(context.out / SINGLE)
    context.begin("report", 2, 2)
    failed = [item for item in sets if item.error is not None]
    if failed and len(failed) == len(sets):
        raise _error_for_all(failed)
    report.write(context.out, spec, sets)
    warnings = [f"{item.name}: {text}" for item in sets for text in item.warnings]
    return Outcome({"sets": [item.model_dump() for item in sets]}, partial=bool(failed), warnings=warnings)


class TemplatesJob:
    """What all meshes of a job share: the poses, the cache and the count of finished views."""

    def __init__(self, spec: Templates, context: Context, *, alone: bool) -> None:
        from gnomon.tasks.templates.views import load_poses, view_poses

        self.spec = spec
        self.context = context
        self.alone = alone
        self.cache = ResultCache(context.cache / "templates")
        if spec.camera_poses is None:
            self.T_obj_cam = view_poses(spec.views)
        else:
            self.T_obj_cam = load_poses(context.input(spec.camera_poses))
        self._lock = threading.Lock()
        self._views_done = 0
        self._views_total = 0

    def make_all(self, items: list[Item]) -> list[TemplateSet]:
        """All sets, several meshes at a time when there are several: reading one overlaps with drawing another."""
        self._views_total = len(items) * len(self.T_obj_cam)
        at_once = min(len(items), self.context.cpus)
        threads = max(1, self.context.cpus // at_once)
        if at_once == 1:
            return [self._make_or_report(item, threads) for item in items]
        sets: dict[int, TemplateSet] = {}
        with ThreadPoolExecutor(at_once) as pool:
            futures = {pool.submit(self._make_or_report, item, threads): item.index for item in items}
            try:
                for future in as_completed(futures):
                    sets[futures[future]] = future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [sets[item.index] for item in items]

    def _make_or_report(self, item: Item, threads: int) -> TemplateSet:
        try:
            made = self._make(item, threads)
        except (InputError, MethodError) as error:
            self.context.item(item.name, error)
            self._count(len(self.T_obj_cam))
            return TemplateSet(
                name=item.name, mesh=_file_name(item), error=error.to_dict() | {"exit_code": error.exit_code}
            )
        self.context.item(item.name)
        return made

    def _make(self, item: Item, threads: int) -> TemplateSet:
        """One set: from an earlier attempt, from the cache, or made now."""
        began = time.monotonic()
        self.context.check_cancelled()
        key = self._key(item)
        step = f"mesh-{item.index:05d}"
        done = self.context.finished(step, key)
        if done is not None:
            self._count(len(self.T_obj_cam))
            return TemplateSet.model_validate(done)
        folder = SINGLE if self.alone else item.name
        cache_key = step_key(key)
        with self.context.new_folder(folder) as draft:
            cached = self.cache.restore(cache_key, draft)
            if cached:
                self._count(len(self.T_obj_cam))
            else:
                self._render(item, draft, threads)
        made = self.context.out / folder
        if not cached:
            self.cache.store(cache_key, made)
        manifest = atomic.read_json(made / "templates.json") or {}
        described = self._describe(item, folder, manifest, cached, time.monotonic() - began)
        self.context.finish(step, key, described.model_dump())
        return described

    def _render(self, item: Item, folder: Path, threads: int) -> None:
        from gnomon.tasks.templates.make import make_set

        make_set(
            self.context.input(item.input),
            folder,
            self.spec,
            self.T_obj_cam,
            threads=threads,
            cache_root=self.context.cache,
            on_view=self._on_view,
        )

    def _on_view(self) -> None:
        self.context.check_cancelled()
        self._count(1)

    def _count(self, views: int) -> None:
        with self._lock:
            self._views_done += views
            done = self._views_done
        self.context.progress(done, self._views_total, "view")

    def _key(self, item: Item) -> dict[str, Any]:
        """All that the bytes of a set depend on."""
        return {
            "renderer": RENDERER_VERSION,
            "files": self.context.input_key(item.input),
            "main": PurePosixPath(item.input).name,
            "poses": hashlib.sha256(self.T_obj_cam.tobytes()).hexdigest(),
            "options": self.spec.model_dump(mode="json", exclude=NOT_IN_KEY),
            "any_size": self.spec.allow_any_size,
        }

    def _describe(self, item: Item, folder: str, manifest: dict[str, Any], cached: bool, seconds: float) -> TemplateSet:
        prefix = "" if self.alone else f"{folder}/"
        return TemplateSet(
            name=item.name,
            mesh=_file_name(item),
            folder="." if self.alone else folder,
            templates_dir=prefix + ("templates" if self.spec.layout == "nested" else ""),
            contact_sheet=f"{prefix}contact_sheet.png",
            views=manifest["views"],
            triangles=manifest["triangles"],
            diameter_m=manifest["diameter_m"],
            warnings=tuple(manifest["warnings"]),
            cached=cached,
            seconds=round(seconds, 3),
        )


def name_items(inputs: list[str]) -> list[Item]:
    """A folder name for each mesh: its file's stem, made unique by a number where several are alike."""
    taken: set[str] = {"result.json", "report.html"}
    items = []
    for index, name in enumerate(inputs):
        stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(name).stem).strip("._") or "mesh"
        unique, number = stem, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.lower())
        items.append(Item(index, name, unique))
    return items


def _hoist(folder: Path) -> None:
    """Move a folder's entries up by one. Each is a rename, so an attempt killed in between goes on from there."""
    if folder.is_dir():
        for entry in folder.iterdir():
            entry.rename(folder.parent / entry.name)
        folder.rmdir()


def _file_name(item: Item) -> str:
    return PurePosixPath(item.input).name


def _error_for_all(failed: list[TemplateSet]) -> GnomonError:
    first = from_dict(failed[0].error or {})
    if len(failed) == 1:
        return first
    return type(first)(
        f"none of the {len(failed)} meshes could be used; the first: {first.message}",
        code=first.code,
        field="mesh",
        value=failed[0].mesh,
        fix=first.fix,
    )
