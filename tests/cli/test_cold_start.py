"""Help comes at once: what takes seconds to import is imported when it is needed."""

import subprocess
import sys

import pytest

from tlkit.cli import COMMANDS

HEAVY = ("tensorflow", "keras", "cv2", "albumentations", "sklearn", "matplotlib", "jinja2")


def run(*lines):
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["tlkit", *COMMANDS])
def test_help_imports_nothing_heavy(command):
    answer = run(
        "import sys, tlkit, tlkit.cli",
        f"sys.argv = {['tlkit', *command, '--help']}",
        "try: tlkit.cli.main()",
        "except SystemExit as stopped: assert stopped.code == 0, stopped.code",
        f"loaded = [name for name in {HEAVY} if name in sys.modules]",
        "assert not loaded, loaded",
    )
    assert answer.returncode == 0, answer.stderr
    assert "Usage: tlkit" in answer.stdout


def test_the_public_names_are_all_there():
    answer = run("import tlkit", "print([getattr(tlkit, name) for name in tlkit.__all__])")
    assert answer.returncode == 0, answer.stderr


def test_the_data_are_checked_before_the_engine_loads(photos):
    """Files that can't be read show within a second, not after TensorFlow has started."""
    for image in photos.rglob("*.*"):
        image.write_bytes(image.read_bytes()[:100])
    answer = run(
        "import sys, tlkit.cli",
        f"sys.argv = {['tlkit', 'finetune', '--data', str(photos)]}",
        "try: tlkit.cli.main()",
        "except SystemExit as stopped: assert stopped.code == 2, stopped.code",
        "assert 'tlkit.data.checks' in sys.modules",
        "assert 'tensorflow' not in sys.modules",
    )
    assert answer.returncode == 0, answer.stderr
