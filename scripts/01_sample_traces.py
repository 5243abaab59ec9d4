"""Stage 01: sample n reasoning traces a problem with vLLM, or from servers.

    python scripts/01_sample_traces.py --config scripts/recipes/cpu.yaml \
        --problems DeepPrune_data/problems/fresh.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --output traces.jsonl
    python scripts/01_sample_traces.py --problems AIME24.problems.jsonl --model Qwen/Qwen3-8B --n 64 \
        --reasoner-url http://gpu1:8000/v1 http://gpu2:8000/v1 --output traces.jsonl

With --reasoner-url traces come from OpenAI-compatible chat endpoints (vLLM, SGLang, llama.cpp, Ollama, hosted models);
--model is then the name in records alone. Several are a fleet of one model: docs/scale.md. Reasoning that a server, a
template (think blocks) or gpt-oss (channels) keeps apart is a think block of the text (deepprune/data/reasoning.py).

Each trace is on disk the moment it is finished; a killed run goes on with the same command.

A record: {"trace_id": "b0e1...", "problem_id": "6c1f...", "model": "Qwen/Qwen2.5-0.5B-Instruct",
           "sample_index": 3, "text": "First ... \\\\boxed{42}", "n_tokens": 118, "finish_reason": "stop",
           "answer": "42", "correct": true, "sampling": {"temperature": 0.8, ...}, "confidence": {...}}
"""

import asyncio
import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Any

from deepprune.base import arguments, config, jsonl, progress, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.records import Problem
from deepprune.base.stage import command
from deepprune.data import reasoning, traces
from deepprune.data.confidence import Windows
from deepprune.data.sampling import SamplingSettings, check_context
from deepprune.engines import models
from deepprune.engines.chat import ChatRequest, ChatServers
from deepprune.engines.servers import ServerSettings
from deepprune.judges import prompts

Sample = tuple[Problem, int]  # a trace to sample: of which problem, its sample index


@dataclasses.dataclass
class SampleSettings(SamplingSettings, ServerSettings):
    problems: str = setting(config.REQUIRED, "JSONL file of Problem records")
    model: str = setting(
        config.REQUIRED,
        "the reasoner: local folder, hub id, or packaged fallback (with --reasoner-url its name in records)",
    )
    output: str = setting(config.REQUIRED, "JSONL file of Trace records; appended to when it exists", ends=config.JSONL)
    model_name: str | None = setting(None, "name to record instead of --model (for local folders)")
    reasoner_url: list[str] = setting(
        [], "sample from these OpenAI-compatible servers of the model, as http://127.0.0.1:8000/v1", is_url=True
    )
    n: int = setting(16, "traces a problem; may grow on resume", free=True, at_least=1)
    limit: int | None = setting(None, "only the first so many problems; may grow on resume", free=True, at_least=1)
    only: list[str] | None = setting(None, "only the problems with these ids")
    system: str | None = setting(None, "system message")
    suffix: str = setting(
        "\n\nThink step by step, then give the final answer in \\boxed{}.", "appended to each question"
    )
    seed: int = config.seed(
        "engine seed (a resumed run derives another one from it); servers: of each trace's own seed"
    )
    confidence_top_k: int = setting(20, "log-probabilities averaged a token (DeepConf); 0: no confidence", at_least=0)
    confidence_window: int = setting(2048, "tokens in a confidence window", at_least=1)
    confidence_stride: int = setting(512, "keep a window mean every so many tokens", at_least=1)
    dtype: str = config.dtype("the weights' type in vLLM", "reasoner_url")
    max_model_len: int | None = setting(None, "context length in tokens (default: the model's)", free=True, at_least=1)
    max_num_seqs: int = setting(
        64, "traces generated at once, by each copy of the model and each server", free=True, at_least=1
    )
    tensor_parallel: int = setting(1, "GPUs that share one copy of the model", free=True, at_least=1)
    data_parallel: int = setting(1, "copies of the model", free=True, at_least=1)
    engine_args: list[str] = setting([], "further arguments of the vLLM engine, as NAME=VALUE, passed on unread")
    request_args: list[str] = setting([], "servers: fields of each request, as NAME=VALUE (null: left out)")
    timeout: float = config.like(ServerSettings, "timeout", 3600.0)
    overwrite: bool = setting(False, "replace an existing output")

    def recorded(self) -> dict[str, Any]:
        """How traces are sampled, as their records hold it."""
        template = self.template_args()
        return (
            self.sampling().recorded()
            | {"system": self.system, "suffix": self.suffix, "seed": self.seed}
            | ({"chat_template_args": template} if template else {})
        )

    def confidence_of(self, logprobs: Sequence[Sequence[float]]) -> dict | None:
        """A trace's confidence from the log-probabilities of the likeliest at each token; None without any."""
        windows = Windows(self.confidence_top_k, self.confidence_window, self.confidence_stride)
        return windows.summarise(windows.of(logprobs)) if self.confidence_top_k else None


@command
def main() -> None:
    settings = config.parse(SampleSettings, "sample", __doc__)
    settings.sampling(), settings.template_args()  # checked before anything starts
    engine_args = arguments.of_engine(settings.engine_args)
    request_args = arguments.of_requests(settings.request_args)
    if settings.engine_args and settings.reasoner_url or settings.request_args and not settings.reasoner_url:
        raise UserError("--engine-args are of an engine in this process, --request-args of --reasoner-url")
    problems = chosen(settings)
    if settings.reasoner_url:
        path, name, source = "", settings.model_name or settings.model, "servers"
    else:
        check_context(settings.max_tokens, settings.max_model_len)
        runtime.ensure()
        model = models.resolve(settings.model)
        path, name, source = model.path, settings.model_name or model.name, model.source
    manifest = open_manifest(settings, name, source)
    with manifest.appender() as out:
        if out.repaired:
            print(f"{settings.output}: removed a cut-off last line left by a killed run")
        done = {(t.problem_id, t.sample_index) for t in records.read(records.Trace, settings.output)}
        todo = [(p, i) for p in problems for i in range(settings.n) if (p.problem_id, i) not in done]
        print(f"{len(problems)} problems x {settings.n} traces: {len(done)} on disk, {len(todo)} to sample")
        if todo and settings.reasoner_url:
            asyncio.run(sample_from_servers(settings, request_args, Traces(settings, name, out), todo))
        elif todo:
            sample(settings, engine_args, path, Traces(settings, name, out), todo, len(done), manifest)
    everything = list(records.read(records.Trace, settings.output))
    by_id = {p.problem_id: p for p in problems}
    table = traces.Tally(by_id, (t for t in everything if t.problem_id in by_id)).show()
    manifest.finish(len(everything), summary=table)


def chosen(settings: SampleSettings) -> list[Problem]:
    """The problems of --only and --limit."""
    problems = list(records.read_problems(settings.problems).values())
    if settings.only:
        missing = set(settings.only) - {p.problem_id for p in problems}
        if missing:
            raise UserError(f"{settings.problems}: holds no problem {min(missing)} (--only)")
        problems = [p for p in problems if p.problem_id in settings.only]
    return problems[: settings.limit]


def open_manifest(settings: SampleSettings, name: str, source: str) -> Manifest:
    made_from = config.resolved(settings) | {"model_name": name, "from_servers": bool(settings.reasoner_url)}
    made_from.pop("problems"), made_from.pop("model")
    return Manifest.open(
        settings.output,
        "sample",
        made_from,
        [settings.problems],
        config.free_settings(SampleSettings),
        settings.overwrite,
        {"reasoner": f"{name} ({source})"},
    )


class Traces:
    """Where sampled traces go: made records, on disk, in the bar, their tokens counted."""

    def __init__(self, settings: SampleSettings, name: str, out: jsonl.Appender):
        self.settings, self.name, self.out, self.tokens = settings, name, out, 0

    def bar(self, total: int) -> Any:
        self.shown = progress.bar(total=total, desc="traces", unit="trace")
        return self.shown

    def add(
        self, sample: Sample, text: str, n_tokens: int, finish: str, logprobs: Sequence, more: dict[str, Any]
    ) -> None:
        """A finished trace. logprobs: of the likeliest at each token; more: of its sampling."""
        problem, index = sample
        sampling, summary = self.settings.recorded() | more, self.settings.confidence_of(logprobs)
        trace = traces.make(problem, self.name, index, text, max(1, n_tokens), finish, sampling, summary)
        self.out.append(records.to_row(trace))
        self.tokens += n_tokens
        self.shown.update()
        rate = self.tokens / max(self.shown.format_dict["elapsed"], 1e-9)
        self.shown.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)


async def sample_from_servers(
    settings: SampleSettings, request_args: dict[str, Any], out: Traces, todo: list[Sample]
) -> None:
    """Sample the missing traces from --reasoner-url. Each trace has a seed of its own, whatever was done before."""
    servers = ChatServers(
        settings.reasoner_url,
        settings,
        settings.sampling(),
        top=settings.confidence_top_k,
        template=settings.template_args(),
        more=request_args,
    )
    system = [{"role": "system", "content": settings.system}] if settings.system else []

    def requests() -> Iterator[tuple[Sample, ChatRequest]]:
        for problem, index in todo:
            seed = random.Random(f"{settings.seed}/{problem.problem_id}/{index}").randrange(2**31)
            question = {"role": "user", "content": problem.question + settings.suffix}
            yield (problem, index), ChatRequest([*system, question], seed)

    bare = 0
    try:
        await servers.open()
        with out.bar(len(todo)):
            async for sample, reply in servers.run(requests(), settings.max_num_seqs):
                bare += bool(settings.confidence_top_k) and not reply.logprobs
                more = {"endpoint": "chat", **({"request_args": request_args} if request_args else {})}
                out.add(sample, reply.text, reply.n_tokens, reply.finish_reason, reply.logprobs, more)
    finally:
        await servers.close()
    print(f"{out.tokens:,} tokens generated by the servers' count")
    if bare:
        print(f"{bare} of {len(todo)} traces came without log-probabilities: they have no confidence (DeepConf)")


def sample(
    settings: SampleSettings,
    engine_args: dict[str, Any],
    path: str,
    out: Traces,
    todo: list[Sample],
    done: int,
    manifest: Manifest,
) -> None:
    """Sample the missing traces in an engine of this process."""
    from transformers import AutoTokenizer

    from deepprune.engines import engine

    tokenizer = AutoTokenizer.from_pretrained(path)
    prompt_ids(settings, tokenizer, todo[0][0])  # refused before the engine starts
    seed = engine.resume_seed(settings.seed, done)
    with engine.running(
        path,
        seed=seed,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        tensor_parallel=settings.tensor_parallel,
        data_parallel=settings.data_parallel,
        max_logprobs=max(settings.confidence_top_k, 1),
        count_tokens=True,
        extra=engine_args,
    ) as llm:
        before = engine.generated_tokens() or 0
        generate(settings, llm, tokenizer, out, todo, {"engine_seed": seed, "dtype": settings.dtype})
        after = engine.generated_tokens()
    counted = None if after is None else after - before
    shown = "not readable" if counted is None else f"{counted:,}"
    print(f"{out.tokens:,} tokens generated by our count, {shown} by the engine's own")
    manifest.data.setdefault("engine_tokens", []).append(counted)


def prompt_ids(settings: SampleSettings, tokenizer: Any, problem: Problem) -> list[int]:
    """A problem's prompt in the reasoner's tokens."""
    return prompts.reasoner_prompt_ids(
        tokenizer, problem.question, settings.system, settings.suffix, **settings.template_args()
    )


def generate(
    settings: SampleSettings, llm: Any, tokenizer: Any, out: Traces, todo: list[Sample], more: dict[str, Any]
) -> None:
    """Sample in a running engine. Raises UserError for a question that is longer than the model's context."""
    from vllm import SamplingParams

    from deepprune.engines import engine

    top_k, longest = settings.confidence_top_k, llm.llm_engine.model_config.max_model_len
    channels = reasoning.has_channels(tokenizer)
    params = SamplingParams(
        **settings.sampling().recorded(), logprobs=top_k or None, detokenize=True, skip_special_tokens=not channels
    )
    open_requests: dict[str, Sample] = {}

    def requests():
        for problem, index in todo:
            ids = prompt_ids(settings, tokenizer, problem)
            if len(ids) >= longest:
                raise UserError(
                    f"problem {problem.problem_id}: its prompt is {len(ids)} tokens, {out.name} reads {longest - 1} "
                    "at most: raise --max-model-len"
                )
            request = f"{problem.problem_id}/{index}"
            open_requests[request] = (problem, index)
            yield request, {"prompt_token_ids": ids}, params

    with out.bar(len(todo)):
        for request, output in engine.run(llm, requests(), window=2 * settings.max_num_seqs * settings.data_parallel):
            done = output.outputs[0]
            text = reasoning.plain(done.text) if channels else done.text
            logprobs = [[p.logprob for p in at.values()] for at in done.logprobs or ()]
            finish = done.finish_reason or "unknown"
            out.add(open_requests.pop(request), text, len(done.token_ids), finish, logprobs, more)


if __name__ == "__main__":
    main()
