"""Private virtual environments for methods that cannot share ours.

A method whose packages clash with gnomon's (another NumPy, one exact Python), or whose licence keeps it out
of our process, declares an `Environment`. It is built once under the cache, and its script runs there as a
child process that talks in lines of text.

    <root>/envs/<name>-<hash>/      hash of the requirements and the Python version
        venv/                       the virtual environment
        install.log                 what pip said
        ready.json                  written last; without it the environment counts as absent
    <root>/envs/<name>-<hash>.lock  held by the process that builds or removes it
"""

from gnomon.environments.build import install, remove
from gnomon.environments.child import lines, record, run
from gnomon.environments.environment import Environment, is_ready, path

__all__ = ["Environment", "install", "is_ready", "lines", "path", "record", "remove", "run"]
