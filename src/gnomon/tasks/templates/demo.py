"""The demo of `templates`: the 42 views of the mug that ships with gnomon."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gnomon.tasks.templates.spec import Templates


def spec(inputs: Path) -> Templates:
    """What to run; `inputs` is where a demo may make its input files, and this one needs none."""
    del inputs
    return Templates.parse(mesh=str(files("gnomon") / "data" / "mug.ply"))


def what_next(folder: Path) -> list[str]:
    """Lines for the user once the demo has run."""
    return [
        f"look at:   {folder / 'report.html'} and {folder / 'contact_sheet.png'}",
        f"the files: {folder / 'templates'}/rgb_0.png, mask_0.png, xyz_0.npy ...",
        "try next:  gnomon templates YOUR.ply -o out --mesh-unit mm --transparent --depth",
    ]
