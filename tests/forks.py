"""Scripts in forks of a process that has the heavy packages loaded: as users run them, without seconds of imports.

A fork has its own standard output and error, environment, process group and exit code. It computes with one thread, and
a vLLM engine lives in the fork itself, not in two further processes that import everything again: nothing that two
tests at once, or a busy machine, could slow down tenfold. What is about the engine's processes or `runtime.ensure`
needs a real process.
"""

import atexit
import contextlib
import gc
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from unittest import mock

from deepprune.base import runtime

# Loaded before the forks. Not deepprune: its modules remember the process that imported them.
PACKAGES = [
    f"vllm.v1.worker.{'gpu' if runtime.has_gpu() else 'cpu'}_worker",
    *("vllm.v1.engine.llm_engine", "vllm.renderers.hf", "vllm.model_executor.models.llama"),
    *("sentence_transformers", "sklearn.metrics", "pandas", "matplotlib.pyplot", "scipy.stats"),
]
# Of all tests' processes (from here on: before torch is imported). Threads that wait for each other crawl on a busy
# machine.
MODEST = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
os.environ.update(MODEST)
ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OPENBLAS_NUM_THREADS": "1"}  # of forks
# What trainings read is cached here, not in the user's cache.
_data_sets = tempfile.TemporaryDirectory(prefix="deepprune-data-sets-")


def _be(arguments: list[str], environment: dict[str, str], folder: str, out: str, err: str) -> None:
    """In the fork: become `python *arguments`, output to the files out and err."""
    gc.freeze()  # what was loaded before the fork is searched for garbage in no fork
    os.setsid()
    for file, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    code = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 1 and end.code != 1:
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def run(arguments, folder, environment=None, timeout=1800) -> subprocess.CompletedProcess:
    """Run a script with its arguments in `folder`; its standard output and error as text.

    subprocess.TimeoutExpired ends its process group.
    """
    arguments = [str(argument) for argument in arguments]
    environment = runtime.environment(dict(os.environ if environment is None else environment) | ONE_PROCESS)
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PACKAGES)
    with mock.patch.dict(os.environ, environment | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": _data_sets.name}):
        multiprocessing.forkserver.ensure_running()
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        process = forks.Process(target=_be, args=(arguments, environment, str(folder), out.name, err.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout, out.read(), err.read())
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read(), err.read())
