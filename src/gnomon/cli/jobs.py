"""The verbs for jobs that exist: list, show, follow, stop, repeat, fetch, delete."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gnomon.cli.output import age, as_json_option, duration, print_json, print_table
from gnomon.errors import EXIT_PARTIAL
from gnomon.tasks import TASKS

STATES = (
    "queued",
    "launching",
    "staging",
    "running",
    "publishing",
    "lost",
    "succeeded",
    "failed",
    "cancelled",
)
FOLLOW_POLL_S = 0.1


def complete_job(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Job ids for shell completion, straight from the folder names."""
    from gnomon.job import JobStore
    from gnomon.paths import home_dir

    ids = [job.id for job in reversed(JobStore(home_dir()).all())]
    return [job_id for job_id in ids if job_id.startswith(incomplete)][:20]


job_argument = click.argument("job", shell_complete=complete_job)
jobs_argument = click.argument("job_names", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)


class SubmitGroup(click.Group):
    """`gnomon submit TASK ...` takes the same arguments as `gnomon TASK ...`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TASKS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from gnomon.cli.tasks import task_command

        return task_command(TASKS[cmd_name], detach=True) if cmd_name in TASKS else None


@click.group(cls=SubmitGroup)
def submit() -> None:
    """Start a task in the background and print the job's id."""


@click.command()
@click.option("--task", type=click.Choice(list(TASKS)), help="Only jobs of this task.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many.")
@click.option("--before", help="Only jobs older than this id, for the next page.")
@as_json_option
def jobs(task: str | None, states: tuple[str, ...], limit: int, before: str | None, as_json: bool) -> None:
    """List jobs, newest first."""
    home = _home()
    home.ensure_indexed()
    home.keep_going()
    rows = home.index.list(task=task, states=states, limit=limit, before=before)
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("no jobs yet; gnomon --help shows the tasks")
        return
    print_table(["JOB", "TASK", "STATE", "AGE", "TOOK", "LABEL"], [_job_row(row) for row in rows])


@click.command()
@job_argument
@as_json_option
def show(job: str, as_json: bool) -> None:
    """Show one job: state, reason, progress, error, results."""
    home = _home()
    home.keep_going()
    found = home.job(job)
    request, status = found.request(), found.status()
    result = found.directory.read_result()
    if as_json:
        record = {
            "request": request.model_dump(mode="json"),
            "status": status.model_dump(mode="json"),
            "folder": str(found.directory.path),
            "result": result,
        }
        print_json(record)
        return
    for name, text in _facts(found, request, status, result):
        click.echo(f"{name + ':':<12}{text}")


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--attempt", type=click.IntRange(1), help="Which attempt; without it the newest.")
@click.option("--events", is_flag=True, help="The worker's events (JSON lines) instead of its output.")
@as_json_option
def logs(job: str, follow: bool, attempt: int | None, events: bool, as_json: bool) -> None:
    """Print what a job's worker printed."""
    home = _home()
    found = home.job(job)
    if as_json:
        if follow:
            found.wait()
        print_json({"id": found.id, "attempt": attempt or found.status().attempt, "log": found.logs(attempt)})
        return
    offset = 0
    shown = attempt
    while True:
        status = found.status()
        final = status.state.is_final and found.is_settled(status)
        newest = found.directory.newest_attempt()
        if attempt is None and newest is not None and newest.number != shown:
            shown, offset = newest.number, 0
        if shown is not None:
            offset = _print_from(found.directory.attempt(shown), offset, events)
        if not follow or final:
            return
        home.run_pass()
        time.sleep(FOLLOW_POLL_S)


@click.command()
@jobs_argument
@click.option("--timeout-s", type=click.FloatRange(0), help="Give up waiting after so many seconds.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@as_json_option
def wait(job_names: tuple[str, ...], timeout_s: float | None, quiet: bool, as_json: bool) -> int:
    """Wait for jobs to end. The exit code is that of the first job that failed."""
    from gnomon.api import error_of
    from gnomon.cli.progress import make_display
    from gnomon.job import State

    home = _home()
    code = 0
    records = []
    for name in job_names:
        found = home.job(name)
        display = make_display(quiet=quiet or as_json)
        try:
            status = found.wait(timeout_s=timeout_s, on_event=display.show)
        finally:
            display.close()
            home.keep_going()
        ended = EXIT_PARTIAL if status.reason is not None else 0
        if status.state is not State.SUCCEEDED:
            error = error_of(status)
            ended = error.exit_code
            if not as_json:
                click.echo(f"{found.id}: {error.describe()}", err=True)
        code = code or ended
        records.append(status.model_dump(mode="json"))
        if not as_json:
            click.echo(f"{found.id} {status.state.value}")
    if as_json:
        print_json(records)
    return code


@click.command()
@jobs_argument
@as_json_option
def cancel(job_names: tuple[str, ...], as_json: bool) -> None:
    """Stop jobs. Jobs that have ended stay as they are."""
    _apply(job_names, lambda found: found.cancel(), as_json)


@click.command()
@jobs_argument
@as_json_option
def retry(job_names: tuple[str, ...], as_json: bool) -> None:
    """Try failed or cancelled jobs again; finished steps are kept."""
    _apply(job_names, lambda found: found.retry(), as_json)


@click.command()
@job_argument
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--overwrite", is_flag=True, help="Put results into a folder that holds other files.")
@as_json_option
def fetch(job: str, out: Path, overwrite: bool, as_json: bool) -> None:
    """Copy a job's results into a folder."""
    found = _home().job(job)
    found.fetch(out, overwrite=overwrite)
    if as_json:
        print_json({"id": found.id, "out": str(out)})
    else:
        click.echo(f"results: {out}")


@click.command()
@jobs_argument
@as_json_option
def rm(job_names: tuple[str, ...], as_json: bool) -> None:
    """Delete jobs with all their files."""
    home = _home()
    found = [home.job(name) for name in job_names]
    for job in found:
        job.remove()
        if not as_json:
            click.echo(f"removed {job.id}")
    if as_json:
        print_json({"removed": [job.id for job in found]})


@click.command()
@as_json_option
def reindex(as_json: bool) -> None:
    """Rebuild the index from the job folders."""
    count = _home().reindex()
    if as_json:
        print_json({"jobs": count})
    else:
        click.echo(f"{count} jobs")


def _home() -> Any:
    from gnomon.api import Home

    return Home()


def _apply(job_names: tuple[str, ...], action: Any, as_json: bool) -> None:
    home = _home()
    statuses = [action(home.job(name)) for name in job_names]
    home.keep_going()
    if as_json:
        print_json([status.model_dump(mode="json") for status in statuses])
        return
    for status in statuses:
        click.echo(f"{status.id} {status.state.value}")


def _print_from(attempt: Any, offset: int, events: bool) -> int:
    path = attempt.events if events else attempt.log
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except FileNotFoundError:
        return offset
    click.echo(data.decode("utf-8", errors="replace"), nl=False)
    sys.stdout.flush()
    return offset + len(data)


def _job_row(row: dict[str, Any]) -> list[str]:
    created = datetime.fromisoformat(row["created_at"]).timestamp()
    state = row["state"]
    if row["reason"]:
        state += f" ({row['error_code'] or row['reason']})"
    took = ""
    if row["started_at"]:
        took = duration((row["ended_at"] or time.time()) - row["started_at"])
    return [row["id"], row["task"], state, age(created), took, row["label"] or ""]


def _facts(found: Any, request: Any, status: Any, result: dict[str, Any] | None) -> list[tuple[str, str]]:
    facts = [
        ("job", found.id),
        ("task", f"{request.task}, method {request.method}, site {request.site}"),
        ("state", status.state.value + (f" ({status.reason.value})" if status.reason else "")),
        ("created", request.created_at),
        ("inputs", ", ".join(file.name for file in request.inputs)),
        ("resources", f"{request.resources.cpus} cpus, {request.resources.mem_gb:g} GB, "
                      f"{request.resources.gpus} gpus, {request.resources.timeout_s:g} s"),
        ("attempt", f"{status.attempt} of {request.max_attempts}"),
    ]  # fmt: skip
    if request.label:
        facts.insert(1, ("label", request.label))
    if status.progress is not None and not status.state.is_final:
        p = status.progress
        facts.append(("progress", f"[{p.index}/{p.count}] {p.step} {p.done}/{p.total} {p.unit}"))
    if status.error is not None:
        facts.append(("error", f"{status.error['message']} [{status.error['code']}]"))
        if status.error.get("fix"):
            facts.append(("fix", status.error["fix"]))
    if status.max_rss_mb is not None:
        facts.append(("used", f"{status.cpu_s:.2f} CPU-s, at most {status.max_rss_mb:.0f} MB"))
    if result is not None:
        facts.append(("results", f"{found.results} ({len(result['outputs'])} files, {duration(result['seconds'])})"))
    facts.append(("folder", str(found.directory.path)))
    return facts
