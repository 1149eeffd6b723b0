"""`gnomon doctor`: one look at everything that jobs here depend on."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

import click

from gnomon import __version__, paths
from gnomon.cli.methods import all_methods
from gnomon.cli.output import as_json_option, print_json
from gnomon.errors import MissingError

PACKAGES = ("numpy", "numba", "pydantic", "trimesh", "pillow", "sqlalchemy", "psutil", "h5py", "embreex")
OPTIONAL = {"h5py": "hdf5", "embreex": "embree"}


@click.command()
@as_json_option
def doctor(as_json: bool) -> int:
    """Say what is installed, what can run here, and why not. The exit code is 3 when jobs cannot run at all."""
    report = examine()
    if as_json:
        print_json(report)
    else:
        _print(report)
    return 0 if all(site["ok"] for site in report["sites"].values()) else MissingError.exit_code


def examine() -> dict[str, Any]:
    """All facts as one JSON document."""
    from gnomon.site import load_sites

    sites = {}
    for name, site in load_sites(paths.home_dir()).items():
        probe = site.launcher.probe()
        sites[name] = {"ok": probe.ok, "facts": probe.facts, "problems": list(probe.problems)}
    return {
        "gnomon": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "home": str(paths.home_dir()),
        "cache": str(paths.cache_dir()),
        "sites_file": str(paths.sites_file()),
        "packages": {name: _version(name) for name in PACKAGES},
        "sites": sites,
        "methods": [method.describe(paths.cache_dir()) for method in all_methods()],
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _print(report: dict[str, Any]) -> None:
    click.echo(f"gnomon {report['gnomon']}, Python {report['python']}, {report['platform']}")
    click.echo(f"jobs in {report['home']}, cache in {report['cache']}")
    for name, version in report["packages"].items():
        absent = f'absent (optional: pip install "gnomon[{OPTIONAL[name]}]")' if name in OPTIONAL else "ABSENT"
        click.echo(f"  {name:<12}{version or absent}")
    click.echo("sites")
    for name, site in report["sites"].items():
        facts = ", ".join(f"{key} {value}" for key, value in site["facts"].items())
        click.echo(f"  {name:<12}{'ok' if site['ok'] else 'NOT usable'}: {facts}")
        for problem in site["problems"]:
            click.echo(f"  {'':<12}{problem}")
    click.echo("methods")
    for method in report["methods"]:
        verdict = "ready" if not method["missing"] else f"needs {'; '.join(method['missing'])}: {method['remedy']}"
        click.echo(f"  {method['task']}/{method['name']}: {verdict}")
