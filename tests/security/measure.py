"""Give every crafted file to plain Keras and to tlkit, and print the table of `.github/SECURITY.md`.

    python tests/security/measure.py [FILE...]

Each file is read in a folder of its own, by a process of its own that has at most 8 GiB.
"""

import os
import re
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import hostile
import keras
import numpy as np
from test_advisories import read

LARGEST = 8 * 2**30


def read_plainly(path):
    """Read a file as Keras does when asked for a model, or for weights."""
    if not path.name.endswith(".weights.h5"):
        return keras.saving.load_model(path, compile=False)
    image = keras.Input((4,), name="image")
    model = keras.Model(image, keras.layers.Dense(3, name="dense")(image))
    model.load_weights(path)
    return model


def outcome(reader, case):
    """Return in a few words what a reader does with a crafted file."""
    end, start = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(start, _tried(reader, case).encode()[:4000])
        os._exit(0)
    os.close(start)
    with os.fdopen(end) as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return said or f"the process ends with status {status}"


def _tried(reader, case):
    resource.setrlimit(resource.RLIMIT_DATA, (LARGEST, LARGEST))
    os.chdir(tempfile.mkdtemp(prefix="hostile-"))
    hostile.lay_secrets()
    Path(case.name).write_bytes(case.content())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        model = reader(Path(case.name).resolve())
        if "legacy" not in case.name:
            model(np.ones((1, 4), "float32"))
        said = "loads its arrays" if case.name.endswith(".h5") else "loads it"
        if any(hostile.SECRET in np.asarray(array) for array in model.get_weights()):
            said += " with the other file's numbers"
        if any("second" in getattr(layer, "get_vocabulary", list)() for layer in model.layers):
            said += " with the other file's words"
    except Exception as error:
        text = str(error).rpartition("Exception encountered: ")[2]  # of the innermost part that Keras was at
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("A total of")]
        first = next(iter(lines), "").replace(str(Path.cwd()) + "/", "")
        said = f"{type(error).__name__}: {_short(first)}"
    if Path(hostile.TRACE).exists():
        said = f"**executes it**; {said}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return said + (f" ({grown} MB)" if grown > 100 else "")


def _short(text):
    """Return the first sentence of a message, without what would break the table."""
    plain = re.sub(r"[|`]|\{\{.*?\}\} ?", "", text)
    return re.split(r"\.( |$)|, which ", plain)[0][:110]


if __name__ == "__main__":
    print(f"| advisory | file | plain Keras {keras.__version__} | tlkit |\n|---|---|---|---|", flush=True)
    wanted = sys.argv[1:] or [case.name for case in hostile.HOSTILE]
    for case in (case for case in hostile.HOSTILE if case.name in wanted):
        rows = [outcome(reader, case) for reader in (read_plainly, read)]
        print(f"| {case.advisory} | {case.what} (`{case.name}`) | {rows[0]} | {rows[1]} |", flush=True)
    for advisory, reason in hostile.ELSEWHERE.items():
        print(f"| {advisory} | | not a model's file | can't apply: {reason} |")
    for advisory in hostile.UNKNOWN:
        print(f"| {advisory} | | no description found | not tested |")
