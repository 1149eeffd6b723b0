"""Runs a script or a module that must not outlive the process that started it.

    python -I lifeline.py script.py ARGUMENTS...
    python -I lifeline.py -m module ARGUMENTS...

Stand-alone: it is run by the interpreters of other environments and imports only the standard library. Standard input
is a pipe that the parent holds open and never writes to; when the parent ends, however it ends, the pipe closes, and
this process and its whole group are killed. On Linux the kernel is asked for the same, because a thread can only watch
the pipe while nobody sits on the interpreter's lock.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


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
    threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    if os.name == "nt":
        os._exit(1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
