"""The one place that starts vLLM.

Generation goes through the engine's own step loop rather than `LLM.generate`, so that each result is on
disk the moment it is finished. Whatever goes wrong after an engine has started ends it: `running` when its block is
left, and what is still there when this process ends goes with it (Python would wait for the engine's process for ever).
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.process
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any

from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.engines.engine_copies import Copies


def machine_options(dtype: str, gpu_memory_utilization: float) -> dict[str, Any]:
    """vLLM engine arguments that depend on the machine.

    On CPU: eager mode (compilation costs more than a short run gains), KV blocks of 32 tokens (the CPU build's 128
    leave most of a judge prompt out of the prefix cache). dtype 'auto': see runtime.compute_dtype.
    """
    dtype = runtime.compute_dtype(dtype)
    if runtime.has_gpu():
        return {"dtype": dtype, "gpu_memory_utilization": gpu_memory_utilization}
    return {"dtype": dtype, "enforce_eager": True, "block_size": 32}


def start(
    model: str,
    *,
    seed: int = 0,
    dtype: str = "auto",
    max_model_len: int | None = None,
    max_num_seqs: int = 64,
    prefix_caching: bool = True,
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    gpu_memory_utilization: float = 0.9,
    max_logprobs: int = 20,
    count_tokens: bool = False,
    extra: dict[str, Any] | None = None,
):
    """A vLLM engine for a local model folder, to be used by `run`; the process must run under `runtime.ensure()`.

    tensor_parallel: GPUs a copy of the model is spread over; data_parallel: copies. On a CPU each has cores of its own.
    count_tokens: let `generated_tokens` count this engine's. extra: further vLLM engine arguments.
    Raises UserError when vLLM refuses the settings or runs out of memory.
    """
    if tensor_parallel * data_parallel > 1 and not runtime.has_gpu():
        runtime.bind_ranks(tensor_parallel * data_parallel)
    options = (
        {
            "model": model,
            "seed": seed,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "enable_prefix_caching": prefix_caching,
            "tensor_parallel_size": tensor_parallel,
            "max_logprobs": max_logprobs,
            "trust_remote_code": False,
            "generation_config": "vllm",  # the model's own sampling parameters are not ours
            "disable_log_stats": not count_tokens,
            "use_tqdm_on_load": False,
        }
        | machine_options(dtype, gpu_memory_utilization)
        | (extra or {})
    )
    with starting(model):
        if data_parallel > 1:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            arguments = AsyncEngineArgs(**options, data_parallel_size=data_parallel)
            llm = Copies(lambda: AsyncLLM.from_engine_args(arguments))
        else:
            from vllm import LLM

            llm = LLM(**options)
    end_with_process(llm, shutdown)
    return llm


@contextlib.contextmanager
def running(model: str, **options) -> Iterator[Any]:
    """An engine for a block of code: `start` with these options, `shutdown` however the block is left."""
    llm = start(model, **options)
    try:
        yield llm
    finally:
        shutdown(llm)


@contextlib.contextmanager
def starting(model: str) -> Iterator[None]:
    """Around whatever starts an engine: its refusals are UserErrors, its processes end with this one, not by Ctrl-C.

    A terminal sends Ctrl-C to all processes, and each would print a traceback; SIGTERM, which we send, ends them
    quietly.
    """
    start_process = multiprocessing.process.BaseProcess.start

    def deaf(process):
        resource_tracker.ensure_running()  # its start, which is part of the first process's, unblocks SIGINT again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit what is blocked
        try:
            start_process(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end_when_killed(process.pid)

    multiprocessing.process.BaseProcess.start = deaf
    try:
        yield
    except (ValueError, RuntimeError) as error:
        killed = (
            "; -9: the system killed it, most likely because memory ran out" if re.search(r": -9\b", str(error)) else ""
        )
        raise UserError(f"vLLM could not start {model}: {error}{killed}") from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"vLLM could not start {model}: {error}: see to --engine-args") from error
    finally:
        multiprocessing.process.BaseProcess.start = start_process


# Reads until this process is gone, then ends the other one, unless that has ended before. A pidfd is never another
# process's.
_WATCHER = """
import os, select, signal, sys
engine = os.pidfd_open(int(sys.argv[1]))
if engine not in select.select([0, engine], [], [])[0]:
    signal.pidfd_send_signal(engine, signal.SIGTERM)
    if not select.select([engine], [], [], 20)[0]:
        signal.pidfd_send_signal(engine, signal.SIGKILL)
"""
_watchers: list[subprocess.Popen] = []  # each holds the pipe whose end is this process's end


def end_when_killed(pid: int) -> None:
    """End the process `pid` when this one is gone without having been able to: killed, for memory too, or by SIGTERM.

    An engine does not notice; it would keep its memory until somebody finds it. Linux only (elsewhere nothing happens).
    """
    if hasattr(os, "pidfd_open"):
        _watchers[:] = [watcher for watcher in _watchers if watcher.poll() is None]
        command = [sys.executable, "-I", "-S", "-c", _WATCHER, str(pid)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        _watchers.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **quiet))


_endings: dict[int, Callable[[], None]] = {}  # of the engines that run, by id


def end_with_process(engine: Any, end: Callable[[Any], None]) -> None:
    """Call end(engine) when this process ends, unless it `has_ended` by then."""
    if not _endings:  # after multiprocessing's own exit handler, so called before it, which waits for child processes
        atexit.unregister(_end_all)
        atexit.register(_end_all)
    _endings[id(engine)] = lambda: end(engine)


def has_ended(engine: Any) -> None:
    """Forget an engine that its user has stopped."""
    _endings.pop(id(engine), None)


def _end_all() -> None:
    while _endings:
        _endings.popitem()[1]()


def run(llm, requests: Iterable[tuple[str, Any, Any]], window: int = 256) -> Iterator[tuple[str, Any]]:
    """Feed (request id, prompt, SamplingParams) to the engine; yield (id, RequestOutput) as each finishes.

    Request ids must be unique among the open requests. Raises UserError if the engine refuses a request (a prompt that
    is too long, say) or dies. However it is left, what is open is aborted: the engine can be used again, with the same
    ids.

    At most `window` requests are in the engine at once, so an endless iterable needs no more memory.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    engine = llm.llm_engine
    waiting = iter(requests)
    open_requests: set[str] = set()
    exhausted = False
    try:
        while True:
            while not exhausted and len(open_requests) < window:
                try:
                    name, prompt, params = next(waiting)
                except StopIteration:
                    exhausted = True
                    break
                try:
                    engine.add_request(name, prompt, params)
                except (ValueError, TypeError) as error:
                    raise UserError(f"vLLM refuses request {name}: {error}") from error
                open_requests.add(name)
            if not open_requests:
                return
            for output in engine.step():
                if output.finished and output.request_id in open_requests:
                    open_requests.remove(output.request_id)
                    yield output.request_id, output
    except EngineDeadError as error:  # its process was killed (memory, say) or hung
        open_requests.clear()
        raise UserError(
            "the vLLM engine died (its own message stands above); what was finished is on disk, run the same command "
            "again. If memory ran out, lower max_num_seqs, batch or max_model_len"
        ) from error
    finally:
        if open_requests:
            with contextlib.suppress(EngineDeadError):
                engine.abort_request(list(open_requests))


def generated_tokens() -> int | None:
    """Tokens that this process's engines have generated, by vLLM's own counters; None if no engine counts."""
    from vllm.v1.metrics.reader import get_metrics_snapshot

    counters = [int(m.value) for m in get_metrics_snapshot() if m.name == "vllm:generation_tokens"]
    return sum(counters) if counters else None


def shutdown(llm) -> None:
    """Stop an engine's worker processes; the caller drops its own reference."""
    has_ended(llm)
    llm.llm_engine.engine_core.shutdown()


def resume_seed(seed: int, done: int) -> int:
    """Engine seed of a (re)started run: differs by how much was done, so no sample is drawn twice alike.

    vLLM's CPU build cannot seed single requests, so the engine as a whole is seeded.
    """
    return seed if done == 0 else random.Random(f"{seed}/{done}").randrange(2**31)
