"""Words of a script:

write NAME      a step of its own that writes out/NAME and counts, in the job's folder, how often it was done
wait NAME       wait until the test makes the file NAME in the job's folder
raise CODE      fail as an algorithm fails
input CODE      fail as wrong input fails
crash           fail as a mistake in the program fails
memory MB       hold so much memory
child           leave a sleeping child behind, in a session of its own
stubborn        ignore requests to stop from here on
full            fail as a full disk fails
die SIGNAL      end this very process by a signal
partial         report that some items failed
say TEXT        print to standard output
litter          change the environment and the folder, and print what an earlier job left there
threads         print how many threads the kernels may use
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gnomon.context import Context, Outcome
from gnomon.errors import InputError, MethodError


def run(spec, context: Context) -> Outcome:
    done = []
    partial = False
    job = context.out.parent.parent.parent
    hoard = []
    for index, line in enumerate(spec.script):
        context.begin(line.replace(" ", "-"), index + 1, len(spec.script))
        word, _, rest = line.partition(" ")
        if word == "write":
            if context.finished(rest, line) is None:
                with (job / f"count-{rest}").open("a") as count:
                    count.write("x")
                with context.new_folder(rest) as folder:
                    (folder / "data.txt").write_text(rest * 1000)
                context.finish(rest, line, {"name": rest})
            done.append(rest)
            context.progress(1, 1, "file")
        elif word == "wait":
            while not (job / rest).exists():
                context.check_cancelled()
                time.sleep(0.005)
        elif word == "raise":
            raise MethodError("the method gave up", code=rest)
        elif word == "input":
            raise InputError(
                "the input is wrong", code=rest, field="script", value=line, expected="better", fix="mend it"
            )
        elif word == "crash":
            raise ZeroDivisionError("a mistake")
        elif word == "memory":
            hoard.append(bytearray(os.urandom(1024) * (int(rest) * 1024)))
        elif word == "child":
            code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
            child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            (job / "child").write_text(str(child.pid))
        elif word == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif word == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        elif word == "die":
            os.kill(os.getpid(), getattr(signal, rest))
        elif word == "partial":
            partial = True
        elif word == "litter":
            print("found", os.environ.get("LITTER", "nothing"), "in", Path.cwd().name, flush=True)
            os.environ["LITTER"] = "litter"
            os.chdir("/")
        elif word == "threads":
            import numba

            print("threads", numba.get_num_threads(), os.environ["OMP_NUM_THREADS"], flush=True)
        elif word == "say":
            print(rest, flush=True)
    return Outcome({"done": done}, partial=partial)
