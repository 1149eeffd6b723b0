"""The docs say what the program does: everything is mentioned, every command is run, nothing is out of date."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from serving import start_server

from gnomon import errors, tasks
from gnomon.job import Reason, State

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
SOURCE = ROOT / "src" / "gnomon"
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "examples" / "README.md", *DOCS.glob("*.md")])
MUG = SOURCE / "data" / "mug.ply"
BLOCK_LIMIT_S = 120


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def own_tasks() -> list[tasks.Task]:
    """Without those that tests register."""
    return [task for task in tasks.TASKS.values() if task.module.startswith("gnomon.")]


def source_trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


# What is documented


def test_every_error_code_is_in_the_table_and_no_other():
    documented = set(re.findall(r"^\| `(\w+)` \|", page("errors.md"), re.MULTILINE))
    raised = error_codes()
    assert {"bad_input", "url_failed", "cancelled_by_user", "mesh_empty", "route_not_found"} <= raised, "collector"
    assert sorted(raised - documented) == [], "codes in src that docs/errors.md does not list"
    assert sorted(documented - raised) == [], "codes in docs/errors.md that nothing raises"


def error_codes() -> set[str]:
    """Every text that can become an error's code: `code=` and "code": values, class defaults, codes of helpers."""
    # Reasons become codes where an attempt ended without an account of its own; this one is no failure.
    codes = {reason.value for reason in Reason} - {Reason.ITEMS_FAILED.value}
    for _, tree in source_trees():
        places = {
            node.name: index
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for index, argument in enumerate(node.args.args)
            if argument.arg == "code"
        }
        for node in ast.walk(tree):
            for value in code_values(node, places):
                codes |= set(texts(value))
    return codes


def texts(value: ast.AST) -> Iterator[str]:
    """The texts an expression may become; keys of what it looks up, as in first["type"], are none of them."""
    if isinstance(value, ast.Subscript):
        yield from texts(value.value)
    elif isinstance(value, ast.Constant):
        if isinstance(value.value, str):
            yield value.value
    else:
        for part in ast.iter_child_nodes(value):
            yield from texts(part)


def code_values(node: ast.AST, places: dict[str, int]) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name in places and len(node.args) > places[name]:
            yield node.args[places[name]]
    elif isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        # {"code": code, ...} of a record is no literal; an expression in there has no code of its own.
        yield from (
            v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "code" if isinstance(v, ast.Constant)
        )
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        if node.target.id == "default_code":
            yield node.value
    elif isinstance(node, ast.Assign):
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if "default_code" in names:
            yield node.value
        elif "codes" in names and isinstance(node.value, ast.Dict):
            # A table from something else's names to codes.
            yield from node.value.values
    elif isinstance(node, ast.FunctionDef):
        arguments = node.args
        yield from (
            default
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if argument.arg == "code" and default is not None
        )


def error_classes(kind: type = errors.GnomonError) -> Iterator[type]:
    yield kind
    for below in kind.__subclasses__():
        yield from error_classes(below)


def test_codes_stand_under_the_heading_of_their_class():
    sections = re.split(r"^## ", page("errors.md"), flags=re.MULTILINE)
    for kind in error_classes():
        (section,) = [part for part in sections if f"`{kind.default_code}` |" in part]
        assert section.splitlines()[0].endswith(f"exit code {kind.exit_code}"), kind.__name__


def test_every_exit_code_is_in_the_table():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page("cli.md"), re.MULTILINE)}
    used = {kind.exit_code for kind in error_classes()} | {0, errors.EXIT_PARTIAL, errors.EXIT_INTERRUPTED}
    assert documented == used


def test_every_state_and_reason_is_in_its_table():
    text = page("jobs.md")
    states = re.search(r"^## States\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    reasons = re.search(r"^## Reasons\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert states is not None and reasons is not None
    assert set(re.findall(r"^\| `(\w+)` \|", states[1], re.MULTILINE)) == {state.value for state in State}
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (\w+) \|", reasons[1], re.MULTILINE))
    assert rows == {reason.value: "yes" if reason.is_transient else "no" for reason in Reason}


def test_every_event_is_documented():
    written = {
        node.args[0].value
        for _, tree in source_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "write"
        if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
        if re.fullmatch("[a-z]+", node.args[0].value)
    }
    assert "heartbeat" in written, "collector"
    section = page("jobs.md").split("## Events")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == written


def test_every_environment_variable_is_documented():
    used = {
        node.value
        for _, tree in source_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"GNOMON_[A-Z_]*[A-Z]", node.value)
    }
    assert "GNOMON_HOME" in used, "collector"
    assert set(re.findall(r"^\| `(GNOMON_\w+)` \|", page("cli.md"), re.MULTILINE)) == used


def test_every_setting_of_the_server_is_documented():
    from gnomon.server.settings import PREFIX, ServerSettings

    section = page("server.md").split("## Settings")[1].split("\n## ")[0]
    variables = re.findall(r"^\| `--[\w-]+` \| `(\w+)` \|", section, re.MULTILINE)
    assert variables == [PREFIX + name.upper() for name in ServerSettings.model_fields]
    example = (ROOT / "deploy" / "gnomon.env").read_text("utf-8")
    assert re.findall(rf"^#({PREFIX}\w+)=", example, re.MULTILINE) == variables


def test_every_route_is_documented():
    import server_tables

    section = page("http-api.md").split("## Routes")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|", section, re.MULTILINE))
    paths = server_tables.openapi_document()["paths"]
    assert rows == {(method.upper(), path) for path, operations in paths.items() for method in operations}


def test_every_field_of_orders_and_jobs_is_documented():
    from gnomon.server.orders import Order
    from gnomon.server.views import JobDetail

    for heading, model in (("Orders", Order), ("Jobs", JobDetail)):
        section = page("http-api.md").split(f"## {heading}\n")[1].split("\n## ")[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(model.model_fields)


def test_every_metric_is_documented():
    tree = ast.parse((SOURCE / "server" / "metrics.py").read_text("utf-8"))
    made = {
        node.args[0].value + ("_total" if node.func.id.startswith("Counter") else "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("MetricFamily")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }
    assert "gnomon_http_requests_total" in made, "collector"
    section = page("server.md").split("## Metrics")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(gnomon_\w+)` \|", section, re.MULTILINE)) == made


def test_every_field_of_a_task_is_in_its_options_table():
    for task in own_tasks():
        options = page(f"{task.name}.md").split("## Options")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", options, re.MULTILINE))
        assert set(rows) == set(task.spec().model_fields)
        for field, flags in rows.items():
            assert field == "mesh" or "--" + field.replace("_", "-") in flags
            default = task.spec().model_fields[field].default
            shown = re.search(rf"^\| `{field}` \|[^|]*\| ([^|]*) \|", options, re.MULTILINE)
            if isinstance(default, bool):
                assert shown is not None and shown[1] == ("yes" if default else "no"), field
            elif isinstance(default, int | float | str):
                assert shown is not None and shown[1] == f"`{default}`", field


def test_every_field_of_a_result_is_documented():
    from gnomon.tasks.templates.spec import TemplateSet

    table = page("python.md").split("| field of `TemplateSet` |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(TemplateSet.model_fields)


def test_every_public_name_and_method_of_a_job_is_documented():
    import gnomon

    text = page("python.md")
    public = text.split("| name | what it is |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", public, re.MULTILINE)) == set(gnomon.__all__)
    own = {name for name in vars(gnomon.Job) if not name.startswith("_")}
    methods = text.split("| `Job` | |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)", methods, re.MULTILINE)) == own


def test_every_method_is_described():
    text = page("methods.md")
    for task in own_tasks():
        for method in task.methods():
            assert f"## {task.name}/{method.name}\n" in text
            section = text.split(f"## {task.name}/{method.name}\n")[1].split("\n## ")[0]
            for fact in (method.licence.split(" ")[0], method.paper, f"gnomon methods install {method.name}"):
                assert fact in section, (method.name, fact)


def test_every_field_of_a_site_is_documented():
    from gnomon.site import LocalSettings

    table = page("sites.md").split("## Fields of a site of kind `local`")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(LocalSettings.model_fields)


def test_generated_parts_are_up_to_date_and_complete():
    """Runs apart from this process, which knows a task that users do not have."""
    code = "import refresh; print(*refresh.all_commands(), sep='\\n'); raise SystemExit(refresh.main(['--check']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment() | {"PYTHONPATH": str(DOCS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/refresh.py"
    commands = done.stdout.splitlines()
    assert "gnomon methods install" in commands
    parts = re.findall(r"<!-- generated: (gnomon.*?) -->", page("cli.md"))
    assert sorted(parts) == sorted(commands)
    headings = re.findall(r"^##+ (gnomon .*)$", page("cli.md"), re.MULTILINE)
    assert sorted(headings) == sorted(commands)[1:]


# Links


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path):
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    broken = [target for target in targets if not target.startswith(("http", "mailto:")) and not is_there(path, target)]
    assert broken == []


def is_there(page_path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = (page_path.parent / name).resolve() if name else page_path
    return file.exists() and (not anchor or anchor in anchors(file))


def anchors(file: Path) -> set[str]:
    """Headings in the form that code hosts link to them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Commands


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, and the comment before it."""

    language: str
    text: str
    line: int
    not_run: bool
    exit_code: int
    with_server: bool


MARK = re.compile(r"<!-- (not run: .+|with a server|exit code: (\d+)) -->")
SERVER = "http://127.0.0.1:8800"
"""Where the docs' examples look for a server; here it is wherever a free port was."""


def blocks(path: Path) -> list[Block]:
    found = []
    lines = path.read_text("utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if start is None and line.startswith("```"):
            start = number
        elif start is not None and line == "```":
            mark = MARK.fullmatch(lines[start - 1]) if start else None
            exit_code = int(mark[2]) if mark is not None and mark[2] else 0
            text = "\n".join(lines[start + 1 : number])
            with_server = mark is not None and mark[1] == "with a server"
            not_run = mark is not None and mark[2] is None and not with_server
            found.append(Block(lines[start][3:].strip(), text, start + 1, not_run, exit_code, with_server))
            start = None
    assert start is None, f"{path.name}: the block of line {start} has no end"
    return found


def clean_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GNOMON_", "PYTHON"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_blocks_are_of_known_languages():
    languages = {block.language for path in PAGES for block in blocks(path)}
    assert languages <= {"sh", "python", "text", "json", "toml", "yaml", "nginx"}


def test_all_commands_and_programs_of_the_docs_run(tmp_path: Path):
    """Each page from top to bottom in a folder of its own that holds a mug.ply; two pages at a time."""

    def place_of(path: Path) -> Path:
        return tmp_path / "-".join(path.relative_to(ROOT).with_suffix("").parts)

    with ThreadPoolExecutor(2) as pool:
        problems = [
            problem for found in pool.map(lambda path: run_page(path, place_of(path)), PAGES) for problem in found
        ]
        problems += [
            problem
            for found in pool.map(lambda path: run_against_server(path, place_of(path)), PAGES)
            for problem in found
        ]
    assert problems == [], "\n\n".join(problems)


def run_against_server(path: Path, folder: Path) -> list[str]:
    """The page's blocks that need a server, as one script, because later ones use what earlier ones found out."""
    script = "\n".join(block.text for block in blocks(path) if block.with_server)
    if not script:
        return []
    assert SERVER in script, f"{path.name} says nowhere where the server is"
    places = {"GNOMON_CACHE": str(folder / "cache"), "GNOMON_SITES": str(folder / "sites.toml")}
    server = start_server(folder / "served", environment=places)
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(SERVER, server.url)],
            cwd=folder / "work",
            env=clean_environment() | places | {"HOME": str(folder), "GNOMON_HOME": str(server.home)},
            capture_output=True,
            text=True,
            timeout=BLOCK_LIMIT_S,
        )
    finally:
        server.stop()
    if done.returncode == 0:
        return []
    return [f"{path.name} against a server ended with {done.returncode}\n{done.stdout}{done.stderr}"]


def run_page(path: Path, folder: Path) -> list[str]:
    work = folder / "work"
    work.mkdir(parents=True)
    shutil.copy(MUG, work / "mug.ply")
    environment = clean_environment() | {
        "HOME": str(folder),
        "GNOMON_HOME": str(folder / "home"),
        "GNOMON_CACHE": str(folder / "cache"),
        "GNOMON_SITES": str(folder / "sites.toml"),
    }
    for block in blocks(path):
        if block.not_run or block.with_server or block.language not in ("sh", "python"):
            continue
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_LIMIT_S,
        )
        if done.returncode != block.exit_code:
            # What follows on the page may need what this block should have made.
            return [f"{path.name}:{block.line} ended with {done.returncode}\n{block.text}\n{done.stdout}{done.stderr}"]
    return []
