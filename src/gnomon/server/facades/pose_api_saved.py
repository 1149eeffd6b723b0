"""Saved requests: the folder that the old pose API kept of every request, in its own layout.

    cam_K.txt                     3 lines of 3 numbers, as received
    rgb/<filename>.png            as received
    depth/<filename>.png          as received
    masks/<first filename>.png    as received
    mesh/<first filename>.ply     in metres
    mesh/original.ply             as received
    debug/ob_in_cam/<filename>.txt   the results
    debug/track_vis/              empty

`gnomon object-pose --scene FOLDER` repeats the request.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gnomon.inputs import disk_error
from gnomon.server.facades.pose_api_body import PoseBody

ORIGINAL = "original"
STALE_S = 3600.0
_DRAFT = ".draft-"


@dataclass(frozen=True)
class SavedRequest:
    """One request on the disk. What is named in `hashes` (sha256) is never written again."""

    folder: Path
    rgb: list[Path]
    depth: list[Path]
    mask: Path
    mesh: Path
    """As the client sent it."""
    camera: Path
    hashes: dict[Path, str]


def save(root: Path, request_id: str, body: PoseBody) -> SavedRequest:
    """Write a request; its folder appears when it is complete.

    Raises:
        MissingError: code `disk_full`.
    """
    draft = root / f"{_DRAFT}{request_id}"
    folder = root / request_id
    hashes: dict[Path, str] = {}

    def write(name: str, data: bytes) -> Path:
        with (draft / name).open("xb") as stream:
            stream.write(data)
        hashes[folder / name] = hashlib.sha256(data).hexdigest()
        return folder / name

    first = body.frames[0].name
    try:
        root.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        for name in ("rgb", "depth", "masks", "mesh", "debug", "debug/ob_in_cam", "debug/track_vis"):
            (draft / name).mkdir()
        # A frame of that name needs the place for its own mesh.
        kept = f"{'mesh' if first.casefold() != ORIGINAL else 'debug'}/{ORIGINAL}.ply"
        saved = SavedRequest(
            folder=folder,
            camera=write("cam_K.txt", "".join(f"{' '.join(map(str, row))}\n" for row in body.K).encode()),
            rgb=[write(f"rgb/{frame.name}.png", frame.rgb) for frame in body.frames],
            depth=[write(f"depth/{frame.name}.png", frame.depth) for frame in body.frames],
            mask=write(f"masks/{first}.png", body.mask),
            mesh=write(kept, body.mesh),
            hashes=hashes,
        )
        write(f"mesh/{first}.ply", body.mesh_m)
        draft.rename(folder)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_error(error, draft) from error
        raise
    return saved


def write_pose(folder: Path, name: str, T_cam_obj: tuple[tuple[float, ...], ...]) -> None:
    """debug/ob_in_cam/<name>.txt, metres, as numpy.savetxt writes it."""
    target = folder / "debug" / "ob_in_cam" / f"{name}.txt"
    temporary = target.with_name(f".{name}.tmp")
    temporary.write_text("".join(" ".join(f"{value:.18e}" for value in row) + "\n" for row in T_cam_obj))
    temporary.replace(target)


def sweep_drafts(root: Path) -> None:
    """Remove what a server that was killed had begun to write; another server may be writing here now."""
    if not root.is_dir():
        return
    for entry in os.scandir(root):
        if entry.name.startswith(_DRAFT) and time.time() - entry.stat().st_mtime > STALE_S:
            shutil.rmtree(entry.path, ignore_errors=True)
