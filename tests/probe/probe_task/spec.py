from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gnomon.tasks.spec import Input, TaskSpec


class Probe(TaskSpec):
    """A script of words, done one after the other (see run.py)."""

    task: ClassVar[str] = "probe"

    script: list[str] = Field(default_factory=list, description="what to do")
    data: Annotated[str, Input(max_bytes=1000)] | None = Field(None, description="a file")
    method: Literal["plain", "absent"] = Field("plain", description="the method")
