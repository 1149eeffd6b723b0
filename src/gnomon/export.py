"""Results to the folder a user named: everything under a temporary name first, then put in place by renames."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from gnomon import atomic
from gnomon.errors import InputError
from gnomon.inputs import disk_error, input_path

OWN_MARK = "result.json"
"""A folder with this file holds results of ours, which newer results may replace."""

UNFINISHED_MARK = ".gnomon-unfinished"
"""Lies in the folder while results are put there; after a kill it tells our half-delivered files from others."""

TEMPORARY = ".gnomon-"
"""How the names of all our temporary files and folders begin."""


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Find out before the work begins whether results can be put into `target`.

    Raises:
        InputError: it cannot be written, or holds files that are not gnomon's results.
    """
    parent = next(path for path in (target, *target.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise InputError(
            f"{parent} is not a folder",
            code="output_not_a_folder",
            field="out",
            value=str(target),
            expected="a folder, which need not exist yet",
        )
    probe = parent / f".gnomon-{secrets.token_hex(6)}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise InputError(
            f"nothing can be written to {parent}: {error.strerror}",
            code="output_not_writable",
            field="out",
            value=str(target),
            fix="choose another folder with -o",
        ) from None
    if not overwrite and target.is_dir() and _holds_other_files(target):
        raise InputError(
            f"{target} holds other files",
            code="output_exists",
            field="out",
            value=str(target),
            expected="a new or empty folder, or one with earlier results of gnomon",
            fix="choose another folder, or pass --overwrite to put the results among those files",
        )


def export_results(results: Path, target: Path, *, overwrite: bool = False) -> Path:
    """Copy a job's results into `target`, one rename per entry; result.json comes last.

    Earlier results in the folder are replaced. Raises what `check_target` raises, and MissingError on a full disk.
    """
    check_target(target, overwrite=overwrite)
    target.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    draft = target / f".gnomon-{secrets.token_hex(6)}.part"
    try:
        shutil.copytree(results, draft, copy_function=_copy)
        names = sorted((path.name for path in draft.iterdir()), key=lambda name: name == OWN_MARK)
        (target / UNFINISHED_MARK).touch()
        _remove_earlier(target)
        for name in names:
            _replace(draft / name, target / name)
        (target / UNFINISHED_MARK).unlink()
    except OSError as error:
        raise disk_error(error, draft) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _remove_earlier(target: Path) -> None:
    """Remove the files of an earlier result, which its own list names; a reader must not count both.

    The list goes first, so that a mixture of old and new never looks finished.
    """
    record = atomic.read_json(target / OWN_MARK) or {}
    (target / OWN_MARK).unlink(missing_ok=True)
    folders: set[Path] = set()
    for output in record.get("outputs", []):
        path = input_path(target, output["name"])
        path.unlink(missing_ok=True)
        folders.update(parent for parent in path.parents if target in parent.parents)
    for folder in sorted(folders, reverse=True):
        # Only what is empty: files of the user may lie beside ours.
        with contextlib.suppress(OSError):
            folder.rmdir()


def _holds_other_files(target: Path) -> bool:
    names = [path.name for path in target.iterdir()]
    ours = OWN_MARK in names or UNFINISHED_MARK in names
    return not ours and any(not name.startswith(TEMPORARY) for name in names)


def _sweep(target: Path) -> None:
    """Remove what a killed delivery left under temporary names."""
    for path in target.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _replace(source: Path, destination: Path) -> None:
    if destination.is_dir() and not destination.is_symlink():
        aside = destination.with_name(f".gnomon-{secrets.token_hex(6)}.old")
        destination.rename(aside)
        source.rename(destination)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        source.replace(destination)


def _copy(source: str, destination: str) -> str:
    # Results are read-only in the job's folder; the user's copy is the user's.
    shutil.copyfile(source, destination)
    return destination
