"""`gnomon demo`: every task once, on data that ships with the package."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from gnomon.cli.output import as_json_option, print_json
from gnomon.tasks import TASKS


@click.command()
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
@as_json_option
def demo(out: Path, as_json: bool) -> None:
    """Run every task once on data that ships with gnomon, and say what to look at and what to try next."""
    from gnomon import api
    from gnomon.cli.progress import make_display

    home = api.Home()
    made = {}
    for name, task in TASKS.items():
        module = importlib.import_module(f"{task.module}.demo")
        job = home.submit(module.spec(out / "inputs" / name), label="demo")
        display = make_display(quiet=as_json)
        try:
            status = job.wait(on_event=display.show)
        finally:
            display.close()
        api.read_result(job.directory, status)
        made[name] = job.fetch(out / name, overwrite=True)
        if not as_json:
            click.echo(f"\n{name}: {task.summary}")
            for line in task.spec().summary((job.directory.read_result() or {})["result"]):
                click.echo(f"  {line}")
            for line in module.what_next(made[name]):
                click.echo(f"  {line}")
    if as_json:
        print_json({name: str(folder) for name, folder in made.items()})
    else:
        click.echo("\nyour own data:  gnomon TASK --help    what ran:  gnomon jobs    what is missing:  gnomon doctor")
