"""Adds the probe task to every Python process of a test: workers are real processes that know it by this file."""

from gnomon.tasks import TASKS, Task

TASKS["probe"] = Task("probe", "Does what a test tells it.", "probe_task", "Probe")
