"""What every fuzz target shares: arguments, instrumented imports, seeds, and a line on executions and coverage.

A target is a script of its own, which ends in `fuzz(...)`:

    python tests/fuzz/TARGET.py [corpus] -max_total_time=600

`corpus` is a folder (default `.fuzz/TARGET`): it is filled with the target's seeds and grows by what reaches new code.
Inputs that fail are written to `.fuzz/TARGET-findings/`; `python tests/fuzz/TARGET.py FILE` repeats one. Other
arguments are libFuzzer's. It needs atheris (extra `fuzz`).
"""

import contextlib
import hashlib
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import traceback
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
LIMITS = {"timeout": 20, "rss_limit_mb": 4096, "keep_seed": 1}  # seconds for one input, MB for the process


def fuzz(load, seeds, watched, limits=None):
    """Fuzz one reader, and say how far it got.

    Args:
        load: Function without arguments that imports what is fuzzed and returns a function of the input's bytes, which
            may raise `TlkitError` and nothing else. It is called once here and once for the replay at the end.
        seeds: Function that yields small valid inputs as bytes.
        watched: Names of the modules whose lines are counted in the replay of the corpus.
        limits: Overrides of `LIMITS`, by libFuzzer's names.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    name = Path(sys.argv[0]).stem
    given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    if given and Path(given[0]).is_file():
        load()(Path(given[0]).read_bytes())
        print(f"{name}: {given[0]} passes")
        return
    corpus = Path(given[0] if given else f".fuzz/{name}").resolve()
    findings = Path(f".fuzz/{name}-findings").resolve()
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    _in_a_child(lambda: _write_seeds(seeds, corpus))  # which imports what is to be instrumented
    settings = [f"-{key}={value}" for key, value in (LIMITS | (limits or {})).items()]
    command = [name, str(corpus), f"-artifact_prefix={findings}/", "-print_final_stats=1", *settings, *options]
    status = _in_a_child(lambda: _fuzz_here(load, command))
    print(f"{name}: exit status {status}; {_replay(load, corpus, watched)}", flush=True)
    sys.exit(status != 0)


def _in_a_child(action):
    """Call a function in a process of its own, which imports anew, and return that process's exit status."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(process, signal.SIGTERM))
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    signal.signal(signal.SIGTERM, before)
    return status


def _write_seeds(seeds, corpus):
    for seed in seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def _fuzz_here(load, command):
    import atheris

    os.chdir(tempfile.mkdtemp(prefix="fuzz-"))
    with atheris.instrument_imports(include=["tlkit"]):
        run = _tolerant(load())
    atheris.Setup(command, run)
    atheris.Fuzz()


def _tolerant(run):
    from tlkit.errors import TlkitError

    def tolerant(data):
        with contextlib.suppress(TlkitError):
            run(data)

    return tolerant


def _replay(load, corpus, watched):
    """Run the whole corpus, and return how many lines of the watched modules it reached."""
    reached = {}

    def trace(frame, event, _argument):
        module = frame.f_globals.get("__name__")
        if module not in watched:
            return None
        reached.setdefault(module, set()).add(frame.f_lineno)
        return trace

    inputs = [path.read_bytes() for path in sorted(corpus.iterdir()) if path.is_file()]
    os.chdir(tempfile.mkdtemp(prefix="fuzz-replay-"))
    run = _tolerant(load())
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        for data in inputs:
            run(data)
    finally:
        sys.settrace(None)
        threading.settrace(None)
    parts = []
    for module in watched:
        lines = _lines_in_functions(Path(importlib.util.find_spec(module).origin))
        parts.append(f"{len(lines & reached.get(module, set()))} of {len(lines)} lines of {module}")
    return f"{len(inputs)} inputs in the corpus reach " + ", ".join(parts)


def _lines_in_functions(file):
    """Return the numbers of the lines of a module's functions: what runs at import is reached by any input."""
    waiting, lines = [compile(file.read_text("utf-8"), str(file), "exec")], set()
    while waiting:
        code = waiting.pop()
        if code.co_flags & 0x2:  # CO_NEWLOCALS: a function, not a module or a class body
            lines |= {line for _, _, line in code.co_lines() if line} - {code.co_firstlineno}
        waiting += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return lines
