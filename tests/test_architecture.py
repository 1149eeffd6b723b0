"""The shape of the package: what may import what, how large things may grow, what is public."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import gnomon

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

LAYERS = (
    ("floor", ("errors", "atomic", "paths", "events", "job", "request", "status")),
    ("geometry", ("geometry",)),
    ("formats", ("formats", "fetch", "environments", "report", "result_cache")),
    ("task interface", ("methods", "tasks.spec", "inputs", "context")),
    ("evaluation", ("evaluation",)),
    ("tasks", ("tasks",)),
    ("worker", ("worker",)),
    ("executors", ("executors",)),
    ("sites and index", ("site", "index_table", "index_decision", "index", "reconcile", "agent")),
    ("api", ("export", "api")),
    ("faces", ("server", "cli")),
    ("entry", ("__main__",)),
)
"""From the bottom up. A module may import from its own layer and from those below."""

MOST_LINES = 400
MOST_FUNCTION_LINES = 80

PUBLIC = [
    "GnomonError",
    "Home",
    "Job",
    "ObjectPose",
    "ObjectPoseResult",
    "Resources",
    "Templates",
    "TemplatesResult",
    "__version__",
    "run",
    "submit",
]


def modules() -> dict[str, Path]:
    """Dotted name, without `gnomon.`, to file; the package itself is ''."""
    found = {}
    for path in sorted((SOURCE / "gnomon").rglob("*.py")):
        parts = path.relative_to(SOURCE / "gnomon").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """gnomon's own modules that a file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == "gnomon" or name.startswith("gnomon."):
                yield nearest_module(name.removeprefix("gnomon").removeprefix("."), known)


def nearest_module(name: str, known: dict[str, Path]) -> str:
    while name not in known:
        name = name.rpartition(".")[0]
    return name


def layer_of(module: str) -> int:
    """The layer whose longest prefix fits."""
    fitting = [
        (len(prefix), index)
        for index, (_, prefixes) in enumerate(LAYERS)
        for prefix in prefixes
        if module == prefix or module.startswith(f"{prefix}.")
    ]
    assert fitting, f"gnomon.{module} has no layer; give it one in LAYERS"
    return max(fitting)[1]


def test_imports_point_downwards_only():
    known = modules()
    upwards = [
        f"gnomon.{module} ({LAYERS[layer_of(module)][0]}) imports gnomon.{target} ({LAYERS[layer_of(target)][0]})"
        for module, path in known.items()
        # The package itself lends its names from above, and its version to all below.
        if module
        for target in imports(path, known)
        if target and layer_of(target) > layer_of(module)
    ]
    assert upwards == []


def test_imports_are_absolute_and_inside_the_package_only():
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


def test_no_task_knows_another():
    known = modules()
    strangers = [
        f"gnomon.{module} imports gnomon.{target}"
        for module, path in known.items()
        if module.count(".") >= 2 and module.startswith("tasks.")
        for target in imports(path, known)
        if target.startswith("tasks.") and target != "tasks.spec"
        if target.split(".")[1] != module.split(".")[1]
    ]
    assert strangers == []


def test_the_floor_needs_no_other_package_but_pydantic():
    """A supervisor and a status look must start at once."""
    allowed = {"gnomon", "pydantic", "platformdirs", *_standard_library()}
    foreign = []
    for module, path in modules().items():
        if module and layer_of(module) == 0:
            foreign += [f"gnomon.{module} imports {name}" for name in _top_level_imports(path) if name not in allowed]
    assert foreign == []


def _standard_library() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names


def _top_level_imports(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module.split(".")[0]


def test_modules_and_functions_stay_small():
    long = []
    for path in modules().values():
        text = path.read_text("utf-8")
        if (lines := text.count("\n")) > MOST_LINES:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert long == []


def test_the_public_names_are_these_and_can_be_had():
    assert gnomon.__all__ == PUBLIC
    assert dir(gnomon) == PUBLIC
    for name in PUBLIC:
        assert getattr(gnomon, name) is not None


def test_folders_and_modules_are_named_after_what_they_hold():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base", "core"}
    named = {part for module in modules() for part in module.split(".")}
    assert sorted(part for part in named if part in vague or part.startswith("base_")) == []


def test_every_dependency_has_an_upper_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    assert requirements
    # An extra may name extras of gnomon itself.
    others = [requirement for requirement in requirements if not requirement.startswith("gnomon[")]
    unbounded = [text for text in others if not re.search(r"<\s*\d|==", text.split(";")[0])]
    assert unbounded == []
