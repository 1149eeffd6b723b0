"""The task `templates`, also as a bare library: `from gnomon.tasks.templates import render_templates`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnomon.tasks.templates.render import render_templates
    from gnomon.tasks.templates.scene import RenderOptions, TemplateView

__all__ = ["RenderOptions", "TemplateView", "render_templates"]

_HOMES = {"render_templates": "render", "RenderOptions": "scene", "TemplateView": "scene"}


def __getattr__(name: str) -> Any:
    # Loaded on demand: listing the tasks must not import the renderer.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
