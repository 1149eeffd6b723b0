"""Delivering results: whole or not at all, never over other people's files."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gnomon.errors import InputError
from gnomon.export import check_target, export_results
from gnomon.result_cache import ResultCache


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates" / "rgb_0.png").write_text("new")
    (folder / "templates" / "rgb_0.png").chmod(0o444)
    (folder / "result.json").write_text("{}")
    return folder


def test_results_arrive_and_belong_to_the_user(results: Path, tmp_path: Path):
    out = export_results(results, tmp_path / "deep" / "out")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == [
        "result.json",
        "templates",
        "templates/rgb_0.png",
    ]
    (out / "templates" / "rgb_0.png").write_text("mine now")
    assert (results / "templates" / "rgb_0.png").read_text() == "new"


def test_earlier_results_are_replaced_whole(results: Path, tmp_path: Path):
    out = tmp_path / "out"
    export_results(results, out)
    (out / "templates" / "rgb_41.png").write_text("of an earlier run")
    export_results(results, out)
    assert [path.name for path in (out / "templates").iterdir()] == ["rgb_0.png"]


def test_files_of_an_earlier_result_do_not_stay_beside_the_new_ones(results: Path, tmp_path: Path):
    out = tmp_path / "out"
    names = ["xyz_0.npy", "xyz_1.npy", "old/xyz_0.npy"]
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("old")
    (out / "old" / "notes.txt").write_text("the user's own")
    (out / "result.json").write_text(json.dumps({"outputs": [{"name": name} for name in names]}))
    export_results(results, out)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["old/notes.txt", "result.json", "templates/rgb_0.png"]


def test_a_list_of_earlier_results_cannot_point_elsewhere(results: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("x")
    (out / "result.json").write_text(json.dumps({"outputs": [{"name": "../precious"}]}))
    with pytest.raises(InputError):
        export_results(results, out)
    assert (tmp_path / "precious").exists()


def test_the_cache_survives_its_own_races(results: Path, tmp_path: Path):
    cache = ResultCache(tmp_path / "cache")
    stop = threading.Event()

    def store() -> None:
        while not stop.is_set():
            cache.store("key", results)

    thread = threading.Thread(target=store)
    thread.start()
    try:
        for number in range(200):
            target = tmp_path / f"again-{number}"
            target.mkdir()
            whole = cache.restore("key", target)
            assert (target / "templates" / "rgb_0.png").exists() == whole
    finally:
        stop.set()
        thread.join()


def test_other_files_are_left_alone(results: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError) as error:
        export_results(results, out)
    assert error.value.code == "output_exists"
    assert "--overwrite" in str(error.value.fix)
    export_results(results, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert (out / "result.json").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as error:
        check_target(tmp_path / "file" / "out")
    assert error.value.code == "output_not_a_folder"


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path: Path, monkeypatch):
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError) as error:
        check_target(tmp_path / "out")
    assert error.value.code == "output_not_writable"


def test_a_failed_delivery_leaves_nothing_half_written(results: Path, tmp_path: Path, monkeypatch):
    import errno

    from gnomon import export
    from gnomon.errors import MissingError

    def full(source: str, destination: str) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "_copy", full)
    with pytest.raises((MissingError, OSError)):
        export_results(results, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_delivery_that_was_killed_half_way_is_done_again(results: Path, tmp_path: Path, monkeypatch):
    from gnomon import export

    replace, calls = export._replace, []

    def die_at_the_second(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, destination)

    monkeypatch.setattr(export, "_replace", die_at_the_second)
    monkeypatch.setattr(export.shutil, "rmtree", lambda *args, **kwargs: None)
    with pytest.raises(KeyboardInterrupt):
        export_results(results, tmp_path / "out")
    monkeypatch.undo()
    assert (tmp_path / "out" / "templates").exists()
    assert not (tmp_path / "out" / "result.json").exists()
    export_results(results, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["result.json", "templates"]


def test_the_cache_gives_back_what_it_was_given(results: Path, tmp_path: Path):
    cache = ResultCache(tmp_path / "cache")
    (tmp_path / "again").mkdir()
    assert not cache.restore("key", tmp_path / "again")
    cache.store("key", results)
    assert cache.restore("key", tmp_path / "again")
    assert (tmp_path / "again" / "templates" / "rgb_0.png").read_text() == "new"


def test_a_damaged_entry_counts_as_absent(results: Path, tmp_path: Path):
    cache = ResultCache(tmp_path / "cache")
    cache.store("key", results)
    (tmp_path / "cache" / "key" / "templates" / "rgb_0.png").unlink()
    (tmp_path / "again").mkdir()
    assert not cache.restore("key", tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []


def test_the_cache_keeps_to_its_bound(results: Path, tmp_path: Path):
    import os

    cache = ResultCache(tmp_path / "cache", limit_gb=12e-9)
    cache.store("old", results)
    os.utime(tmp_path / "cache" / "old", (1, 1))
    for name in ("a", "b", "c"):
        cache.store(name, results)
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert "old" not in kept
    assert "c" in kept
