"""Runs a script or a module that must not outlive the process that started it.

    python -I lifeline.py script.py ARGUMENTS...
    python -I lifeline.py -m module ARGUMENTS...

Stand-alone: it is run by the interpreters of other environments and imports only the standard library.
Standard input is a pipe that the parent holds open and never writes to. When the parent ends, however it
ends, the pipe closes, and this process is killed with everything it started.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    """Guard this process, then become the script or the module named on the command line."""
    _die_with_parent()
    if sys.argv[1] == "-m":
        module = sys.argv[2]
        sys.argv = sys.argv[2:]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


def _die_with_parent() -> None:
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if os.name == "nt":
        threading.Thread(target=_exit_at_end_of, args=(lifeline,), daemon=True).start()
        return
    # A process of its own: a thread could not act while some library sits on the interpreter's lock.
    if os.fork() == 0:
        _kill_group_at_end_of(lifeline)
    os.close(lifeline)


def _kill_group_at_end_of(lifeline: int) -> None:
    for output in (1, 2):
        os.close(output)
    os.read(lifeline, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _exit_at_end_of(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
