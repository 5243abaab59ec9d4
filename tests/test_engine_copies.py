"""Several copies of a model behind one engine's interface: with a stand-in for vLLM's asynchronous engine."""

import asyncio
import os
from types import SimpleNamespace as Some

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.engines import engine
from deepprune.engines.engine_copies import Copies


class Asynchronous:
    """Stands in for AsyncLLM: a request is finished when it is let go, or at once if its prompt is a number."""

    def __init__(self):
        self.model_config = Some(max_model_len=300)
        self.let_go, self.aborted, self.params, self.ended = asyncio.Event(), [], [], 0

    async def generate(self, prompt, params, name):
        self.params.append(params)
        if prompt == "long":
            raise ValueError("The prompt (length 300) is longer than max_model_len")
        try:
            if prompt == "dead":
                await asyncio.sleep(0.05)
                raise EngineDeadError
            if not isinstance(prompt, int):
                await self.let_go.wait()
        except asyncio.CancelledError:
            self.aborted.append(name)
            raise
        yield Some(request_id=name, finished=True, prompt=prompt)

    def shutdown(self):
        self.ended += 1
        raise TypeError("vLLM 0.32's CPU build does so")


@pytest.fixture
def copies():
    copies = Copies(Asynchronous)
    yield copies
    copies.shutdown()


def test_every_request_comes_back_once(copies):
    params = SamplingParams(temperature=0)
    asked = ((str(i), i, params) for i in range(50))
    outputs = dict(engine.run(copies, asked, window=7))
    assert {name: output.prompt for name, output in outputs.items()} == {str(i): i for i in range(50)}
    assert all(p.output_kind == RequestOutputKind.FINAL_ONLY for p in copies.engine.params)
    assert params.output_kind != RequestOutputKind.FINAL_ONLY  # the caller's own are left as they were


def test_a_refused_request_is_one_line_after_what_finished_before_it(copies):
    running = engine.run(
        copies, [("1", 1, SamplingParams()), ("2", "long", SamplingParams()), ("3", "waits", SamplingParams())]
    )
    assert next(running)[0] == "1"
    with pytest.raises(UserError, match="vLLM refuses request 2: The prompt"):
        next(running)
    assert copies.engine.aborted == ["3"]


def test_a_run_that_is_left_early_leaves_no_request_and_no_output_behind(copies):
    asked = [("0", 0, SamplingParams()), *((str(i), "waits", SamplingParams()) for i in range(1, 4))]
    running = engine.run(copies, asked)
    assert next(running)[0] == "0"
    running.close()
    assert sorted(copies.engine.aborted) == ["1", "2", "3"]
    again = [(name, output.prompt) for name, output in engine.run(copies, [("1", 7, SamplingParams())])]
    assert again == [("1", 7)]  # the same names can be used again


def test_a_copy_that_dies_ends_the_run(copies):
    with pytest.raises(UserError, match="the vLLM engine died"):
        list(engine.run(copies, [("1", "dead", SamplingParams()), ("2", "waits", SamplingParams())]))


def test_copies_are_ended_once_and_their_thread_with_them():
    copies = Copies(Asynchronous)
    stand_in = copies.engine
    engine.end_with_process(copies, engine.shutdown)
    engine.shutdown(copies)
    engine.shutdown(copies)
    assert stand_in.ended == 1 and not copies.thread.is_alive()


def test_what_does_not_start_says_so_and_leaves_no_thread():
    import threading

    def refuses():
        raise ValueError("no such model")

    before = threading.active_count()
    with pytest.raises(UserError, match="vLLM could not start m: no such model"), engine.starting("m"):
        Copies(refuses)
    assert threading.active_count() == before


def test_on_a_cpu_every_worker_has_cores_of_its_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 1, 2, 3, 0})
    monkeypatch.setenv(runtime.BIND, "0,1,2,3,4")
    runtime.bind_ranks(2)
    assert os.environ[runtime.BIND] == "0,1|2,3"
    monkeypatch.setenv(runtime.BIND, "1|4")  # the user's own
    runtime.bind_ranks(2)
    assert os.environ[runtime.BIND] == "1|4"
    monkeypatch.delenv(runtime.BIND)
    with pytest.raises(UserError, match="6 parallel workers need a core each, this machine has 5"):
        runtime.bind_ranks(6)
