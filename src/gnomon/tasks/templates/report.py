"""report.html of a templates job: every set with its contact sheet, what was asked for, what went wrong."""

from __future__ import annotations

from pathlib import Path

from gnomon import report
from gnomon.tasks.templates.spec import Templates, TemplateSet


def write(out: Path, spec: Templates, sets: list[TemplateSet]) -> None:
    """Write out/report.html."""
    good = [item for item in sets if item.error is None]
    views = sum(item.views for item in good)
    title = good[0].name if len(sets) == 1 else f"{len(good)} of {len(sets)} template sets"
    lead = f"{views} template views, {spec.size} x {spec.size} pixels, method {spec.method}"
    sections = [_overview(sets)] if len(sets) > 1 else []
    sections += [_section(item, spec) for item in sets]
    sections.append(report.section("Request", report.facts(_request(spec))))
    report.write_page(out / "report.html", f"Templates: {title}", lead, sections)


def _overview(sets: list[TemplateSet]) -> str:
    columns = ["set", "state", "triangles", "diameter, mm", "seconds"]
    return report.section("All sets", report.table(columns, map(_row, sets)))


def _row(item: TemplateSet) -> tuple[str, ...]:
    state = "failed" if item.error else "done"
    return item.name, state, f"{item.triangles:,}", f"{item.diameter_m * 1e3:,.1f}", f"{item.seconds:.2f}"


def _section(item: TemplateSet, spec: Templates) -> str:
    if item.error is not None:
        fix = f" {item.error['fix']}" if item.error.get("fix") else ""
        text = f"{item.error['message']} [{item.error['code']}].{fix}"
        return report.section(item.name, report.note(text, bad=True))
    folder = item.templates_dir or "."
    pairs = [
        ("file", f"{item.mesh}, unit {spec.mesh_unit}"),
        (
            "size",
            f"{item.triangles:,} triangles, {item.diameter_m * 1e3:,.1f} mm across (diagonal of its box)",
        ),
        ("files", f"{folder}/rgb_i.png, mask_i.png, xyz_i.npy for i = 0 ... {item.views - 1}"),
        ("made", "taken from the cache" if item.cached else f"in {item.seconds:.2f} s"),
    ]
    warnings = [report.note(text) for text in item.warnings]
    sheet = report.picture(item.contact_sheet, f"all views of {item.name}")
    return report.section(item.name, report.facts(pairs), *warnings, sheet)


def _request(spec: Templates) -> list[tuple[str, str]]:
    fields = spec.model_dump(mode="json", exclude={"mesh", "camera_poses"})
    words = {True: "yes", False: "no"}
    return [(name, words[value] if isinstance(value, bool) else str(value)) for name, value in fields.items()]
