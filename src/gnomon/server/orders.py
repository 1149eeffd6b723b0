"""A job as it is ordered over HTTP, and the way from there to a spec with files of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gnomon import atomic
from gnomon.errors import InputError
from gnomon.inputs import input_path
from gnomon.request import Resources
from gnomon.tasks import get_task
from gnomon.tasks.spec import TaskSpec, input_fields

SHA256 = r"^[0-9a-f]{64}$"


class Order(BaseModel):
    """What POST /v1/jobs takes. Files are uploaded first; `files` gives them names, `params` use the names."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "task": "templates",
                    "params": {"mesh": ["mug.obj"], "size": 256},
                    "files": {"mug.obj": "0" * 64, "mug.mtl": "1" * 64},
                }
            ]
        },
    )

    task: str = Field(description="name of the task", max_length=64)
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of the task (GET /v1/tasks/{task}); inputs are names in `files`, or http(s) URLs",
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        description="sha256 of uploaded files by name; a mesh's materials and textures lie beside it by their names",
    )
    resources: dict[str, Any] = Field(
        default_factory=dict, description="cpus, mem_gb, gpus, timeout_s, where the task's defaults do not suit"
    )
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="seed of everything random")
    site: str = Field("local", max_length=64, description="where to run")
    label: str | None = Field(None, max_length=500, description="a name of your own")
    max_attempts: int = Field(3, ge=1, le=100, description="tries in all, when machines fail")
    webhook_url: str | None = Field(None, max_length=2000, description="told when the job has ended")

    def fingerprint(self) -> str:
        """The same for the same order: what an idempotency key stands for."""
        return hashlib.sha256(atomic.canonical_json(self.model_dump(mode="json"))).hexdigest()

    def check_names(self, most_files: int) -> None:
        """Refuse too many files, and hashes that are none, before anything is looked up."""
        if len(self.files) > most_files:
            raise InputError(
                f"{len(self.files)} files are more than the server takes for one job",
                code="too_many_files",
                field="files",
                value=len(self.files),
                expected=f"at most {most_files}",
            )
        for name, sha256 in self.files.items():
            if len(sha256) != 64 or not all(character in "0123456789abcdef" for character in sha256):
                raise InputError(
                    f"files: {sha256!r} is no sha256",
                    code="field_invalid",
                    field=f"files.{name}",
                    value=sha256,
                    expected="64 hexadecimal digits in lower case",
                )

    def spec(self, folder: Path) -> TaskSpec:
        """The typed spec, its input names turned into paths under `folder`, where the files have been laid out.

        Raises:
            InputError: a field is wrong, or an input is neither in `files` nor a URL.
        """
        spec_type = get_task(self.task).spec()
        spec = spec_type.parse(**self.params)
        placed: dict[str, Any] = {}
        for field, _, is_list in input_fields(spec_type):
            value = getattr(spec, field)
            if value is None:
                continue
            sources = [self._place(field, source, folder) for source in (value if is_list else [value])]
            placed[field] = sources if is_list else sources[0]
        return spec_type.parse(**(self.params | placed))

    def _place(self, field: str, source: str, folder: Path) -> str:
        if source.lower().startswith(("http://", "https://")):
            return source
        if source not in self.files:
            raise InputError(
                f"{field}: {source!r} is not among the files of this order",
                code="input_not_found",
                field=field,
                value=source,
                expected="a name in `files`, or an http(s) URL; paths on the server are never read",
                fix="PUT /v1/files/SHA256 the file, then give it this name in `files`",
            )
        return str(input_path(folder, source))


def resources_of(spec: TaskSpec, asked: dict[str, Any], cpus: int, mem_gb: float) -> Resources:
    """The task's defaults for a site of this size, with what was asked for instead."""
    unknown = sorted(set(asked) - set(Resources.model_fields))
    if unknown:
        raise InputError(
            f"resources have no field {unknown[0]!r}",
            code="field_unknown",
            field=f"resources.{unknown[0]}",
            expected="one of: " + ", ".join(Resources.model_fields),
        )
    default = spec.default_resources(cpus, mem_gb)
    given = {key: value for key, value in asked.items() if value is not None}
    if not given:
        return default
    from pydantic import ValidationError

    try:
        return Resources.model_validate(default.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"resources.{first['loc'][0]}: {first['msg']}",
            code="field_invalid",
            field=f"resources.{first['loc'][0]}",
            value=first.get("input"),
        ) from None
