"""The history: what is kept, what goes, and what is left where something fails."""

import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versatile_diffusion.studio import history as module
from versatile_diffusion.studio.history import History, NewResult, default_folder

INPUT = f"{'a' * 64}.png"
OTHER = f"{'b' * 64}.png"


def result(title: str = "a tent", size: int = 100, inputs: dict[str, bytes] | None = None, **more: Any) -> NewResult:
    fields: dict[str, Any] = {"content": b"x" * size, "record": {"seed": 3}, "form": {"prompt": title}}
    kind = ("text", ".txt") if isinstance(more.get("content"), str) else ("image", ".png")
    return NewResult("text-to-image", title, 3, *kind, **fields | more, inputs=inputs or {})


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "results").rglob("*") if path.is_file()}


def test_results_survive_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path)
    picture = history.add(result(inputs={INPUT: b"picture"}))
    text = history.add(result("said", content="a house", form={"prompt": "said", "steps": 8}))
    assert (picture.file.read_bytes(), text.file.read_text(), text.text) == (b"x" * 100, "a house", "a house")
    assert json.loads(picture.record.read_text()) == {"seed": 3}
    history.close()
    again = History(tmp_path)
    assert again.entries() == [text, picture]
    assert again.input(INPUT).read_bytes() == b"picture"
    assert again.count == 2 and again.size == sum(path.stat().st_size for path in (tmp_path / "results").rglob("*.*"))


def test_results_of_any_modality_are_kept(tmp_path: Path) -> None:
    history = History(tmp_path)
    new = NewResult("make-tones", "three tones", 3, "tones", ".wav", b"RIFF", {"seed": 3}, {}, {})
    kept = history.add(new)
    assert (kept.modality, kept.file.suffix, kept.file.read_bytes(), kept.text) == ("tones", ".wav", b"RIFF", None)
    assert history.is_result(kept.file) and history.is_result(kept.record)
    history.close()
    assert History(tmp_path).entries() == [kept]


def test_a_history_of_before_is_read_and_goes_on(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "inputs").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "history.db")) as table:
        table.executescript(
            """pragma user_version = 1;
            create table results (id text primary key, created float, task text, title text, seed integer, text text,
                                  form text, bytes integer);
            create table inputs (name text primary key, bytes integer);
            create table uses (result text, input text, primary key (result, input));"""
        )
        for name, text in (("20260101-000000-image-variation-0123abcd", None), ("20260102-000000-edit-0123abcd", "a")):
            form = json.dumps({"picture": {"input": INPUT}, "steps": 8, "scheduler": "model's own"})
            table.execute("insert into results values (?, 1, 't', 'a tent', 3, ?, ?, 4)", (name, text, form))
            (results / f"{name}.{'png' if text is None else 'txt'}").write_bytes(b"png")
            (results / f"{name}.json").write_bytes(b"{}")
        table.commit()
    history = History(tmp_path)
    words, image = history.entries()
    assert (words.modality, words.file.suffix, words.text) == ("text", ".txt", "a")
    assert (image.modality, image.file.suffix, image.form["steps"]) == ("image", ".png", 8)
    history.add(result())
    assert history.count == 3


def test_what_is_deleted_takes_its_inputs_along_unless_others_need_them(tmp_path: Path) -> None:
    history = History(tmp_path)
    first = history.add(result(inputs={INPUT: b"shared", OTHER: b"own"}))
    second = history.add(result(inputs={INPUT: b"shared"}))
    history.delete(first.id)
    assert files(tmp_path) == {second.file.name, second.record.name, INPUT}
    history.delete("another")
    history.clear()
    assert files(tmp_path) == set() and history.entries() == [] and history.size == 0


@given(
    st.lists(st.tuples(st.integers(1, 400), st.sampled_from(["", INPUT, OTHER])), max_size=12), st.integers(300, 1500)
)
def test_it_never_grows_beyond_its_limit_and_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, str]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("history")
    history = History(folder, limit)
    added = []
    for size, name in sizes:
        try:
            added.append(history.add(result(size=size, inputs={name: b"y" * 150} if name else {})))
        except OSError:
            assert size + 150 + 20 > limit
        on_disk = sum(path.stat().st_size for path in (folder / "results").rglob("*") if path.is_file())
        assert history.size == on_disk <= limit
    kept = [entry.id for entry in reversed(history.entries())]
    assert kept == [entry.id for entry in added][len(added) - len(kept) :]
    history.close()


def test_what_a_killed_process_left_is_cleaned(tmp_path: Path) -> None:
    history = History(tmp_path)
    whole, broken = history.add(result(inputs={INPUT: b"1"})), history.add(result(inputs={OTHER: b"2"}))
    broken.record.unlink()
    assert history.entries() == [whole]
    history.close()
    results = tmp_path / "results"
    for name in ("20260101-000000-edit-0123abcd.png", f".{'0' * 32}", f"inputs/{'c' * 64}.png"):
        (results / name).write_bytes(b"left")
    (results / "holiday.jpg").write_bytes(b"not ours")
    whole.file.unlink()
    again = History(tmp_path)
    assert again.entries() == [] and files(tmp_path) == {"holiday.jpg"}


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path)
    kept = history.add(result(inputs={INPUT: b"1"}))
    write, written = module.write_whole, []

    def fail(file: Path, content: bytes) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(file)
        write(file, content)

    monkeypatch.setattr(module, "write_whole", fail)
    with pytest.raises(OSError, match="No space left"):
        history.add(result(inputs={INPUT: b"1", OTHER: b"2"}))
    assert written and files(tmp_path) == {kept.file.name, kept.record.name, INPUT}
    assert history.entries() == [kept]


def test_a_result_larger_than_all_is_refused(tmp_path: Path) -> None:
    history = History(tmp_path, 50)
    with pytest.raises(OSError, match="larger than 50 bytes"):
        history.add(result())
    assert files(tmp_path) == set()


def test_a_history_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"no table" * 200)
    with pytest.raises(OSError, match="Cannot keep the history"):
        History(tmp_path)


def test_threads_and_processes_share_it(tmp_path: Path) -> None:
    histories = [History(tmp_path), History(tmp_path)]
    threads = [
        threading.Thread(target=lambda i=i: [histories[i % 2].add(result(f"{i}")) for _ in range(5)]) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(histories[0].entries()) == len(histories[1].entries()) == 20


def test_it_lies_where_the_user_keeps_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "versatile-diffusion" / "history"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert default_folder() == tmp_path / ".local" / "share" / "versatile-diffusion" / "history"
