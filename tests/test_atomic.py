"""Files that appear whole: what a killed writer leaves is found and removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnomon import atomic


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "deep").mkdir()
    for name in ("result.json", ".hidden.tmp", "deep/.notes.123.tmp", "deep/x.tmp"):
        (tmp_path / name).write_text("mine")
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # As after kill -9: neither the rename nor the clean-up behind it happens.
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        atomic.write_json(tmp_path / "deep" / "poses.json", {"a": 1})
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(kept) + 1
    atomic.sweep(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kept
