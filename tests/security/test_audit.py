"""The audit of the dependencies: what it says and how it ends for each answer of pip-audit's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit"
SOUND = {"name": "sound", "version": "1", "vulns": []}
ILL = {"name": "ill", "version": "1",
       "vulns": [{"id": "GHSA-x", "aliases": ["CVE-1"], "fix_versions": ["2"], "description": "."}]}  # fmt: skip
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([SOUND, UNKNOWN], 0, "1 of 2 packages audited, 0 vulnerabilities"),
        ([SOUND, ILL], 1, "ill 1: GHSA-x, mended in ['2']"),
        ([UNKNOWN], 0, "SKIPPED: the advisory service knows none of 1 packages: Dependency not found on PyPI"),
        ("requests.exceptions.ConnectionError: no such host", 0, "SKIPPED: the advisory service can't be reached"),
        ("usage: no such option", 1, "pip-audit failed: usage: no such option"),
    ],
)
def test_each_answer(packages, status, said, tmp_path):
    if not SCRIPT.is_file():
        pytest.skip("there is no .ci beside the tests")
    answer = {"out": json.dumps({"dependencies": packages})} if isinstance(packages, list) else {"err": packages}
    lines = [f"print({text!r}, file=sys.std{stream})" for stream, text in answer.items()]
    (tmp_path / "pip_audit.py").write_text("\n".join(["import sys", *lines]))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == status
    assert said in ended.stdout + ended.stderr
