"""Writes into README and docs what is generated: help texts, the file tree, tables of directions, settings, routes.

    python docs/refresh.py            bring the pages up to date
    python docs/refresh.py --check    exit code 1 when a page is out of date

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`, where NAME is a command such as
`gnomon jobs`, `tree`, `directions`, `settings` or `routes`.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import click
import server_tables
from click.testing import CliRunner

from gnomon.cli import cli

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 100


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    stale = []
    for page in [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]:
        old = page.read_text("utf-8")
        new = PART.sub(lambda match: f"{match[1]}{generate(match[2])}{match[3]}", old)
        if new != old:
            stale.append(page.name)
            if not check:
                page.write_text(new, "utf-8")
    for name in stale:
        sys.stdout.write(f"{name} {'is out of date' if check else 'brought up to date'}\n")
    return 1 if check and stale else 0


def generate(name: str) -> str:
    """The text for a marker: a table as it is, everything else in a fence."""
    table = {"settings": server_tables.settings_table, "routes": server_tables.routes_table}.get(name)
    if table is not None:
        return f"\n{table()}\n\n"
    text = {"directions": directions, "tree": tree}.get(name, lambda: help_text(name).rstrip())()
    return f"```text\n{text}\n```\n"


def help_text(command: str) -> str:
    """What `COMMAND --help` prints at a fixed width; commands without help of their own say nothing."""
    program, *words = command.split()
    result = CliRunner().invoke(
        cli, [*words, "--help"], prog_name=program, terminal_width=WIDTH, max_content_width=WIDTH
    )
    if result.exit_code != 0:
        raise SystemExit(f"{command} --help failed: {result.output}")
    return result.output


def all_commands(group: click.Group = cli, prefix: str = "gnomon") -> dict[str, click.Command]:
    """Every command and subcommand by the words that call it."""
    found: dict[str, click.Command] = {prefix: group}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            found |= all_commands(command, f"{prefix} {name}")
        elif command is not None:
            found[f"{prefix} {name}"] = command
    return found


def tree() -> str:
    """Every file of the package with the first sentence of its docstring."""
    lines = ["src/gnomon/"]
    _add_folder(DOCS.parent / "src" / "gnomon", "  ", lines)
    return "\n".join(lines)


def _add_folder(folder: Path, indent: str, lines: list[str]) -> None:
    own = folder / "__init__.py"
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and path.name != "__pycache__":
            lines.append(_line(indent, f"{path.name}/", path / "__init__.py"))
            _add_folder(path, indent + "  ", lines)
        elif path.suffix == ".py" and path != own:
            lines.append(_line(indent, path.name, path))
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            lines.append(f"{indent}{path.name}")


def _line(indent: str, name: str, module: Path) -> str:
    return f"{indent}{name:<{32 - len(indent)}}{first_sentence(module)}".rstrip()


def first_sentence(path: Path) -> str:
    """What the module says of itself, up to its first full stop."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) if path.exists() else None
    return re.split(r"\.(?:\s|$)", " ".join((text or "").split("\n\n")[0].split()))[0]


def directions() -> str:
    """Number and unit vector from the object's origin to the camera, for the 42 views of set 0."""
    from gnomon.tasks.templates.views import view_poses

    lines = []
    for index, pose in enumerate(view_poses(0)):
        x, y, z = (round(float(value), 6) + 0.0 for value in pose[:3, 3])
        lines.append(f"{index:2d}  {x:+.6f}  {y:+.6f}  {z:+.6f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
