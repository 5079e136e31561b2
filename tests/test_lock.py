"""The lock on a folder: one holder at a time, named, and gone with its process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tlkit.errors import RunError, WriteError
from tlkit.lock import Lock

HOLD = """
import sys, time
from tlkit.lock import Lock
lock = Lock(sys.argv[1], "this run")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_one_is_refused_with_the_number_of_the_first(holder, tmp_path):
    with pytest.raises(RunError, match=rf"another process \({holder.pid}\) works on this run\. Wait for it"):
        Lock(tmp_path / ".lock", "this run")


def test_it_dies_with_its_holder(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock = Lock(tmp_path / ".lock", "this run")
    assert (tmp_path / ".lock").read_text() == str(os.getpid())
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_about_to_end_is_waited_for(holder, tmp_path):
    threading.Timer(0.3, holder.kill).start()
    Lock(tmp_path / ".lock", "this run", patience=10).release()


def test_patience_ends(holder, tmp_path):
    begun = time.monotonic()
    with pytest.raises(RunError, match="another process"):
        Lock(tmp_path / ".lock", "this run", patience=0.3)
    assert 0.3 <= time.monotonic() - begun < 5


def test_many_threads_hold_it_one_at_a_time(tmp_path):
    """Also while holders remove the file that others have just opened."""
    inside, most, rounds = [], [], []

    def work():
        for _ in range(20):
            lock = Lock(tmp_path / ".lock", "this run", patience=60)
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            rounds.append(1)
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(rounds), max(most)) == (80, 1)


def test_a_link_to_another_file_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path / ".lock", "this run")
    assert (tmp_path / "precious").read_text() == "precious"


def test_nonsense_in_the_file_is_not_repeated(holder, tmp_path):
    (tmp_path / ".lock").write_bytes(b"\xff\x1b[31m evil")
    with pytest.raises(RunError, match="another process works on this run"):
        Lock(tmp_path / ".lock", "this run")


def test_a_lock_whose_file_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(WriteError, match=r"\.lock: can't be written: No such file or directory"):
        Lock(tmp_path / "gone" / ".lock", "this run")
