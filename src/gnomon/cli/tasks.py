"""`gnomon TASK ...`: run a task to its end, or start it with --detach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gnomon.cli import flags
from gnomon.cli.output import as_json_option, duration, print_json
from gnomon.errors import EXIT_PARTIAL
from gnomon.tasks import Task

JOB_OPTIONS: list[Any] = [
    click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the results."),
    click.option("--overwrite", is_flag=True, help="Put results into a folder that holds other files."),
    click.option("--on", "site", default="local", show_default=True, help="Site to run on."),
    click.option("--detach", is_flag=True, help="Start the job, print its id and return."),
    click.option("--label", help="A name of your own for the job."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random."),
    click.option("--cpus", type=click.IntRange(1), help="Cores (and threads) for the job."),
    click.option("--mem-gb", type=click.FloatRange(0, min_open=True), help="Memory limit in GB."),
    click.option("--gpus", type=click.IntRange(0), help="GPUs for the job."),
    click.option("--timeout-s", type=click.FloatRange(0, min_open=True), help="Time limit of an attempt in seconds."),
    click.option("--attempts", type=click.IntRange(1, 100), default=3, show_default=True,
                 help="Tries in all, when machines fail; wrong input is never tried twice."),
    click.option("--allow-private-urls", is_flag=True, help="Let input URLs point at private addresses."),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
]  # fmt: skip


def task_command(task: Task, *, detach: bool = False) -> click.Command:
    """The command of one task, its flags made from the spec."""
    spec = task.spec()

    def run(**values: Any) -> int:
        values["detach"] = values["detach"] or detach
        return _run(task, values)

    decorated: Any = run
    for decorate in reversed([*JOB_OPTIONS, as_json_option]):
        decorated = decorate(decorated)
    command = click.command(task.name, cls=flags.TaskCommand, help=(spec.__doc__ or task.summary).strip())(decorated)
    command.params = [*flags.parameters(spec), *command.params]
    return command


def _run(task: Task, values: dict[str, Any]) -> int:
    from gnomon import api
    from gnomon.export import check_target

    spec_type = task.spec()
    spec = spec_type.from_options(flags.given_shortcuts(spec_type, values), flags.given_values(spec_type, values))
    if values["out"] is not None:
        check_target(values["out"], overwrite=values["overwrite"])
    home = api.Home()
    job = home.submit(
        spec,
        site=values["site"],
        resources=_resources(home, spec, values),
        seed=values["seed"],
        label=values["label"],
        max_attempts=values["attempts"],
        allow_private_urls=values["allow_private_urls"],
    )
    if values["detach"]:
        return _detached(home, job, values)
    return follow(home, job, values)


def _resources(home: Any, spec: Any, values: dict[str, Any]) -> Any:
    """The task's defaults for the site, with what the user asked for instead."""
    from gnomon.request import Resources
    from gnomon.site import get_site

    capacity = get_site(home.reconciler.sites, values["site"]).launcher.capacity()
    default = spec.default_resources(capacity.cpus, capacity.mem_gb)
    asked = {name: values[name] for name in ("cpus", "mem_gb", "gpus", "timeout_s") if values[name] is not None}
    return Resources.model_validate(default.model_dump() | asked)


def _detached(home: Any, job: Any, values: dict[str, Any]) -> int:
    home.keep_going()
    if values["as_json"]:
        print_json({"id": job.id, "state": job.status().state.value})
        return 0
    click.echo(job.id)
    if not values["quiet"]:
        where = f" -o {values['out']}" if values["out"] else " -o OUT"
        click.echo(f"follow it: gnomon wait {job.id}    its files: gnomon fetch {job.id}{where}", err=True)
    return 0


def follow(home: Any, job: Any, values: dict[str, Any]) -> int:
    """Show a job's progress to its end, deliver its files, and say where they are."""
    from gnomon.api import error_of
    from gnomon.cli.progress import make_display
    from gnomon.executors import agent_lock
    from gnomon.job import State

    display = make_display(quiet=values["quiet"])
    try:
        # While this command waits it is the agent; nobody needs to start another.
        with agent_lock.held(home.path):
            status = job.wait(on_event=display.show)
    except KeyboardInterrupt:
        display.close()
        job.cancel()
        job.wait()
        click.echo(f"job {job.id} was cancelled; --detach starts jobs that outlive the terminal", err=True)
        raise
    finally:
        display.close()
        home.keep_going()
    if status.state is not State.SUCCEEDED:
        error = error_of(status)
        if not values["as_json"]:
            click.echo(f"job {job.id} {status.state.value}: gnomon logs {job.id}", err=True)
        raise error
    out = job.fetch(values["out"], overwrite=values["overwrite"]) if values["out"] else job.results
    _report(job, status, out, values["as_json"])
    return EXIT_PARTIAL if status.reason is not None else 0


def _report(job: Any, status: Any, out: Path, as_json: bool) -> None:
    record = job.directory.read_result()
    if as_json:
        print_json({"id": job.id, "state": status.state.value, "out": str(out), **record})
        return
    from gnomon.tasks import get_task

    for line in get_task(record["task"]).spec().summary(record["result"]):
        click.echo(line)
    for warning in record["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    report = out / "report.html"
    click.echo(f"results: {out}" + (f"    look at: {report}" if report.exists() else ""))
    click.echo(f"job {job.id}: {duration(record['seconds'])}, {len(record['outputs'])} files")
