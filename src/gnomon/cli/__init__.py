"""The command line: the same verbs as the Python API. Commands are loaded when they are used.

`gnomon --help` must answer at once, so this module imports nothing but click and the names of the tasks.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from gnomon import __version__
from gnomon.errors import EXIT_INTERRUPTED, GnomonError
from gnomon.tasks import TASKS

# name -> (module, attribute, one line for --help)
COMMANDS = {
    "submit": ("jobs", "submit", "Start a task in the background and print the job's id."),
    "jobs": ("jobs", "jobs", "List jobs, newest first."),
    "show": ("jobs", "show", "Show one job: state, reason, progress, error, results."),
    "logs": ("jobs", "logs", "Print what a job's worker printed."),
    "wait": ("jobs", "wait", "Wait for jobs to end."),
    "cancel": ("jobs", "cancel", "Stop jobs."),
    "retry": ("jobs", "retry", "Try failed or cancelled jobs again; finished steps are kept."),
    "fetch": ("jobs", "fetch", "Copy a job's results into a folder."),
    "rm": ("jobs", "rm", "Delete jobs with all their files."),
    "reindex": ("jobs", "reindex", "Rebuild the index from the job folders."),
    "serve": ("serve", "serve", "Serve jobs over HTTP, with warm workers and the old systems' APIs."),
    "demo": ("demo", "demo", "Run every task once on data that ships with gnomon."),
    "doctor": ("doctor", "doctor", "Say what is installed, what can run here, and why not."),
    "methods": ("methods", "methods", "List, install and check the methods of the tasks."),
    "tokens": ("tokens", "tokens", "Make, list and revoke the tokens of a server."),
    "webhooks": ("webhooks", "webhooks", "Tell other programs of jobs, and see what became of the messages."),
    "eval": ("evaluate", "evaluate", "Compare results with ground truth."),
    "completion": ("completion", "completion", "Print the completion script for a shell."),
}


class LazyGroup(click.Group):
    """Knows the names and summaries of its commands; imports one when it is called or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*TASKS, *COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in TASKS:
            from gnomon.cli.tasks import task_command

            return task_command(TASKS[cmd_name])
        if cmd_name in COMMANDS:
            module, attribute, _ = COMMANDS[cmd_name]
            return getattr(importlib.import_module(f"gnomon.cli.{module}"), attribute)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Tasks"):
            formatter.write_dl([(name, task.summary) for name, task in TASKS.items()])
        with formatter.section("Jobs and set-up"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                raise click.UsageError(f"there is no command {args[0]!r}; did you mean {near[0]!r}?", ctx) from error
            raise


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="gnomon")
def cli() -> None:
    """3D-vision jobs on this machine, on a cluster, or on rented GPUs.

    \b
    gnomon templates mug.ply -o out/     run here, now
    gnomon jobs                          what ran, what runs
    gnomon TASK --help                   all options of a task
    """


def main() -> None:
    """Entry point: runs a command and turns gnomon's errors into their text and exit code."""
    wants_json = "--json" in sys.argv
    try:
        code = cli.main(prog_name="gnomon", complete_var="_GNOMON_COMPLETE", standalone_mode=False)
    except GnomonError as error:
        from gnomon.cli.output import report_error

        report_error(error, as_json=wants_json)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has enough; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
