"""The journal of a search: what is in it after a kill, and what is refused."""

import pytest

from tlkit.errors import RunError
from tlkit.search.journal import Journal


def test_another_process_reads_what_was_written(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.lines == []
    journal.append(asked=0, settings={"head.dropout": 0.5})
    journal.append(told=0, score=None)
    journal.close()
    assert Journal(tmp_path / "journal.jsonl").lines == journal.lines
    assert journal.lines == [{"asked": 0, "settings": {"head.dropout": 0.5}}, {"told": 0, "score": None}]


def test_a_line_that_a_kill_cut_short_never_was(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).append(asked=0)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        journal = Journal(path)
        assert journal.lines == [{"asked": 0}]
        journal.append(asked=1)
        journal.close()
        assert Journal(path).lines == [{"asked": 0}, {"asked": 1}]
        path.write_bytes(whole)


def test_damage_in_the_middle_is_refused_with_its_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"asked": 0}\nnonsense\n{"asked": 1}\n')
    with pytest.raises(RunError, match=r"journal.jsonl, line 2: is damaged"):
        Journal(path)


def test_a_search_is_worked_on_by_one_process_at_a_time(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(RunError, match=r"another process \(\d+\) works on this search"):
        Journal(tmp_path / "journal.jsonl")
    journal.close()
    Journal(tmp_path / "journal.jsonl")
