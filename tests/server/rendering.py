"""A Render Server of ours in a test: its folders, and how to ask it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from serving import RunningServer, start_server
from waiting import until

import gnomon

MUG = Path(gnomon.__file__).parent / "data" / "mug.ply"


@dataclass
class RenderServer:
    """A server with one root, which holds mug.ply, and a folder beside the root that nobody may reach."""

    server: RunningServer
    root: Path

    @property
    def url(self) -> str:
        return self.server.addresses[-1]

    @property
    def outside(self) -> Path:
        return self.root.parent / "outside"

    @property
    def mug(self) -> str:
        return str(self.root / "mug.ply")

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=120.0, trust_env=False, **options)

    def post(self, path: str, body: Any, **params: Any) -> httpx2.Response:
        with self.client() as client:
            return client.post(path, json=body, params=params)

    def get(self, path: str) -> httpx2.Response:
        with self.client() as client:
            return client.get(path)

    def order(self, name: str, **fields: Any) -> dict[str, Any]:
        """A body that renders the mug into a folder of the root."""
        return {"cad_path": self.mug, "output_dir": str(self.root / name), **fields}

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job's record when it has ended."""

        def look() -> dict[str, Any] | None:
            record = self.get(f"/jobs/{job_id}").json()
            return record if record["status"] in ("succeeded", "failed") else None

        return until(look, f"the end of {job_id}")


def prepare(folder: Path) -> Path:
    """Make the root and its neighbours; returns the root."""
    root = folder / "roots"
    for path in (root, folder / "outside", folder / "roots2"):
        path.mkdir(parents=True)
    shutil.copy(MUG, root / "mug.ply")
    shutil.copy(MUG, folder / "outside" / "secret.ply")
    shutil.copy(MUG, folder / "roots2" / "mug.ply")
    return root


def start_render_server(
    folder: Path, *flags: str, start: Callable[..., RunningServer] = start_server, **environment: str
) -> RenderServer:
    """Start `gnomon serve --facade render` over the folders of `prepare`."""
    root = folder / "roots"
    if not root.exists():
        prepare(folder)
    given = [*flags] if "--facade" in flags else [*flags, "--facade", "render:0"]
    server = start(folder / "home", *given, "--render-root", str(root), environment=environment)
    return RenderServer(server, root)


def save_poses(path: Path, count: int) -> str:
    """The first of the 642 views' poses, in the form that clients send."""
    from gnomon.tasks.templates.views import view_poses

    poses = view_poses(2)[:count].copy()
    poses[:, :3, 3] *= 1000
    np.save(path, poses)
    return str(path)
