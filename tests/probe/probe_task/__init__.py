"""A task for tests of the spine: it does in order what its script says."""


def register() -> None:
    """Put the task among gnomon's own in this process."""
    from gnomon.tasks import TASKS, Task

    TASKS["probe"] = Task("probe", "Does what a test tells it.", "probe_task", "Probe")
