"""Fixtures of the tests of the command line."""

import sys

import pytest

from tlkit.cli import main


@pytest.fixture
def tlkit(monkeypatch, capsys):
    """Run a command line; return its exit status, stdout and stderr."""

    def run(*command):
        monkeypatch.setattr(sys, "argv", ["tlkit", *map(str, command)])
        with pytest.raises(SystemExit) as stopped:
            main()
        answer = capsys.readouterr()
        return stopped.value.code, answer.out, answer.err

    return run
