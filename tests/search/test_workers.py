"""Trials in several processes: all done, none twice, whoever dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workers import start, start_and_be_stopped, start_badly

from tlkit.errors import TlkitError
from tlkit.recipe_keys import Span
from tlkit.search.journal import Journal
from tlkit.search.oracles import Oracle
from tlkit.search.trials import Trials
from tlkit.search.workers import work_in_processes

RANGES = {"head.dropout": Span(min=0.0, max=0.8)}


def open_trials(folder, kind="random", trials=7):
    return Trials(Oracle(kind, RANGES, trials, 0, epochs=3), Journal(folder / "journal.jsonl"))


def attempts(folder, number):
    return sorted(path.name for path in folder.glob(f"{number}-*"))


@pytest.mark.parametrize("kind", ["random", "hyperband"])
def test_all_trials_are_done_and_none_twice(tmp_path, kind):
    search, heard = open_trials(tmp_path, kind), []
    work_in_processes(search, start, (str(tmp_path),), 3, 1, lambda proposal, answer: heard.append(proposal.number))
    assert sorted(heard) == sorted(search.answers) == list(search.proposals)
    assert {answer.status for answer in search.answers.values()} == {"done"}
    assert all(len(attempts(tmp_path, number)) == 1 for number in search.answers)
    assert len({path.name.split("-")[1] for path in tmp_path.glob("*-*-0")}) > 1
    assert len(search.answers) == 7 or kind == "hyperband"


def test_the_trial_of_a_dead_worker_is_taken_by_another(tmp_path):
    search = open_trials(tmp_path)
    work_in_processes(search, start, (str(tmp_path), {1: 1, 4: 2}), 2, 1, lambda *_: None)
    assert {answer.status for answer in search.answers.values()} == {"done"}
    assert [len(attempts(tmp_path, number)) for number in range(7)] == [1, 2, 1, 1, 3, 1, 1]


def test_a_trial_that_kills_every_worker_fails(tmp_path):
    search = open_trials(tmp_path, trials=3)
    work_in_processes(search, start, (str(tmp_path), {0: 99}), 1, 1, lambda *_: None)
    assert [search.answers[number].status for number in range(3)] == ["failed", "done", "done"]
    assert search.answers[0].reason == "its worker died 3 times"


def test_workers_that_cannot_start_end_the_search_with_their_reason(tmp_path):
    with pytest.raises(TlkitError, match="a worker gave up: the images are gone"):
        work_in_processes(open_trials(tmp_path), start_badly, (None,), 2, 1, lambda *_: None)


def test_a_worker_that_is_stopped_ends_quietly(tmp_path, capfd):
    search = open_trials(tmp_path, trials=1)
    work_in_processes(search, start_and_be_stopped, (None,), 1, 1, lambda *_: None)
    assert search.answers[0].status == "failed"
    assert "Traceback" not in capfd.readouterr().err


SEARCH = """
import sys
from pathlib import Path
from test_workers import open_trials, start, work_in_processes
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    work_in_processes(open_trials(folder), start, (str(folder), {}, 1.5), 2, 1, lambda *_: None)
"""


def test_killed_altogether_it_goes_on_and_no_worker_stays_behind(tmp_path):
    """The parent is killed with two trials out: their workers end with it, and both trials are done again."""
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent / "helpers"), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("[0-9]-*"))) < 4:  # two answered, two out
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = {int(path.name.split("-")[1]) for path in tmp_path.glob("[0-9]-*")}
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    search = open_trials(tmp_path)
    cut_short = [number for number in search.proposals if number not in search.answers]
    assert len(cut_short) == 2
    work_in_processes(search, start, (str(tmp_path),), 2, 1, lambda *_: None)
    assert sorted(search.answers) == list(range(7))
    assert [len(attempts(tmp_path, n)) for n in range(7)] == [2 if n in cut_short else 1 for n in range(7)]
