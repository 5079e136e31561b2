"""What the command line draws while it works."""

import pickle

from tlkit.cli import screen


def test_a_worker_gets_a_screen_while_a_bar_is_open(monkeypatch):
    """On a terminal a bar holds threads and locks, which no other process can have."""
    monkeypatch.setattr(screen, "console", screen.Console(stderr=True, force_terminal=True))
    with screen.Screen() as shown:
        shown.images_predicted(1, 3, "test")
        assert shown._bar is not None
        assert pickle.loads(pickle.dumps(shown))._bar is None
