"""Every error gnomon raises on purpose.

    GnomonError
    ├── InputError          the user can mend it: says field, value, what was expected and how to fix it
    │   ├── NotFound        no such job, site, method ...
    │   └── AccessError     a server refuses: no token, a wrong one, or one without the right
    ├── MissingError        something is not installed or not there: package, method environment, disk space
    ├── ExecutorError       the place that runs jobs failed: no process, no scheduler, a lost machine
    ├── MethodError         the algorithm ran and failed; the code says how
    ├── LimitError          a limit of the job was hit: time, memory
    └── Cancelled           someone asked the job to stop

Each error has a stable `code` (documented in docs/errors.md) that is the same in the CLI's exit text, in REST
answers and in the job record, and an `exit_code` for the shell.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GnomonError(Exception):
    """Base of all deliberate errors. `message` says what happened, `fix` how to mend it."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        value: Any = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.value = None if value is None else _short(value)
        self.expected = expected
        self.fix = fix

    def to_dict(self) -> dict[str, Any]:
        """The JSON form kept in job records: code, message and whichever details are known."""
        entries = {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "value": self.value,
            "expected": self.expected,
            "fix": self.fix,
        }
        return {key: entry for key, entry in entries.items() if entry is not None}

    def describe(self) -> str:
        """Several lines for a terminal: the message, then field, value, expectation and fix where known."""
        lines = [f"{self.message} [{self.code}]"]
        if self.field is not None:
            lines.append(f"  field:    {self.field}" + (f" = {self.value}" if self.value is not None else ""))
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.fix is not None:
            lines.append(f"  fix:      {self.fix}")
        return "\n".join(lines)


class InputError(GnomonError):
    """The request or one of its files is wrong, and its author can mend it."""

    exit_code = 2
    default_code = "bad_input"


class NotFound(InputError):
    """The job, site, method or task that was named does not exist."""

    default_code = "not_found"


class AccessError(InputError):
    """A server does not let this caller do this.

    `headers` are those of the HTTP answer, `retry_after_s` says after how many seconds another try makes sense.
    No token ever appears in such an error.
    """

    default_code = "token_missing"

    def __init__(
        self,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        retry_after_s: float | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.headers = headers or {}
        self.retry_after_s = retry_after_s


class MissingError(GnomonError):
    """Something this machine needs for the work is not there."""

    exit_code = 3
    default_code = "not_installed"


class ExecutorError(GnomonError):
    """The place where jobs run could not start, reach or keep a worker."""

    exit_code = 4
    default_code = "launch_failed"


class MethodError(GnomonError):
    """The method ran and could not produce a result it would stand behind."""

    exit_code = 5
    default_code = "method_failed"


class LimitError(GnomonError):
    """The job went over its time or memory limit."""

    exit_code = 7
    default_code = "timeout"


class Cancelled(GnomonError):
    """Someone asked the job to stop."""

    exit_code = 8
    default_code = "cancelled_by_user"


EXIT_PARTIAL = 6
"""Some items of the job failed alone and the rest was delivered."""

EXIT_INTERRUPTED = 130
"""Ctrl-C in the terminal; a detached job goes on."""


def from_dict(record: dict[str, Any]) -> GnomonError:
    """Rebuild an error from a job record; the class is the one whose exit code the record carries."""
    classes = (InputError, MissingError, ExecutorError, MethodError, LimitError, Cancelled)
    kind = next((c for c in classes if c.exit_code == record.get("exit_code")), GnomonError)
    details = {key: record.get(key) for key in ("code", "field", "value", "expected", "fix")}
    return kind(record.get("message", "unknown error"), **details)


def _short(value: Any, limit: int = 200) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
