"""Several copies of a model in one process's care (data parallel), to be used as one `vllm.LLM` is by engine.run.

`vllm.LLM` refuses data_parallel_size in one process. vLLM's asynchronous engine takes it, starts an engine process a
copy and hands each request to the copy that has least to do; here its event loop runs in a thread, and finished
requests come out of a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from deepprune.base.errors import UserError
from deepprune.base.tasks import cancel

SHUTDOWN_SECONDS = 60


class Copies:
    """Has what engine.run and the judges need of an LLM: llm_engine (itself), model_config, add_request, step,
    abort_request.

    make: starts the asynchronous engine (AsyncLLM); called inside the event loop.
    """

    def __init__(self, make: Callable[[], Any]):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="engine copies", daemon=True)
        self.thread.start()
        self.tasks: dict[str, asyncio.Task] = {}  # of the open requests; used in the loop's thread only
        self.done: queue.SimpleQueue = queue.SimpleQueue()  # outputs, and what requests raised
        self.held: list[Any] = []  # taken out of it, for the next step

        async def started():
            return make()

        try:
            self.engine = self._in_loop(started())
        except BaseException:
            self._end_loop()
            raise
        self.llm_engine = self.engine_core = self
        self.model_config = self.engine.model_config

    def _in_loop(self, work, timeout: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def _end_loop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(SHUTDOWN_SECONDS)

    def add_request(self, name: str, prompt: Any, params: Any) -> None:
        """Hand a request to one of the copies. What vLLM refuses is raised by a later step."""
        self.loop.call_soon_threadsafe(self._start, name, prompt, params)

    def _start(self, name: str, prompt: Any, params: Any) -> None:
        self.tasks[name] = asyncio.create_task(self._answer(name, prompt, params))

    async def _answer(self, name: str, prompt: Any, params: Any) -> None:
        try:
            self.done.put(await self._last_output(name, prompt, params))
        except Exception as error:  # noqa: BLE001 - raised again by step, in the caller's thread
            refused = isinstance(error, ValueError | TypeError)
            self.done.put(UserError(f"vLLM refuses request {name}: {error}") if refused else error)
        finally:
            self.tasks.pop(name, None)

    async def _last_output(self, name: str, prompt: Any, params: Any) -> Any:
        from vllm.sampling_params import RequestOutputKind

        params = copy.copy(params)
        params.output_kind = RequestOutputKind.FINAL_ONLY
        async for output in self.engine.generate(prompt, params, name):
            last = output
        return last

    def step(self) -> list[Any]:
        """The outputs of requests that have finished since the last step, one at least: waits for it.

        Raises UserError for a request that vLLM refuses, and what else ended one (EngineDeadError), after what finished
        before it.
        """
        outputs, self.held = self.held or [self.done.get()], []
        outputs += self._waiting()
        first = next((i for i, output in enumerate(outputs) if isinstance(output, Exception)), None)
        if first == 0:
            self.held = outputs[1:]
            raise outputs[0]
        if first:
            outputs, self.held = outputs[:first], outputs[first:]
        return outputs

    def _waiting(self) -> list[Any]:
        """What has come out by now."""
        outputs = []
        with contextlib.suppress(queue.Empty):
            while True:
                outputs.append(self.done.get_nowait())
        return outputs

    def abort_request(self, names: Iterable[str]) -> None:
        """Abort open requests; when this returns, their names can be used again."""

        async def abort() -> None:
            await cancel(self.tasks[name] for name in names if name in self.tasks)

        self._in_loop(abort())
        self.held = []
        self._waiting()

    def shutdown(self) -> None:
        """Stop the copies' processes."""

        async def close() -> None:
            shut_down(self.engine)

        if self.engine is not None:
            with contextlib.suppress(TimeoutError):
                self._in_loop(close(), SHUTDOWN_SECONDS)
            self.engine = None
            self._end_loop()


def shut_down(asynchronous_engine: Any) -> None:
    """Stop an AsyncLLM's processes."""
    # vLLM 0.32's CPU build trips over its own timeout here; the processes are gone.
    with contextlib.suppress(TypeError):
        asynchronous_engine.shutdown()
