"""Stage 01: sample n reasoning traces a problem with vLLM.

    python scripts/01_sample_traces.py --config scripts/recipes/cpu.yaml \
        --problems DeepPrune_data/problems/fresh.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --output traces.jsonl

Each trace is on disk the moment it is finished; a killed run goes on with the same command.

A record: {"trace_id": "b0e1...", "problem_id": "6c1f...", "model": "Qwen/Qwen2.5-0.5B-Instruct",
           "sample_index": 3, "text": "First ... \\\\boxed{42}", "n_tokens": 118, "finish_reason": "stop",
           "answer": "42", "correct": true, "sampling": {"temperature": 0.8, ...}, "confidence": {...}}
"""

import dataclasses

from deepprune import confidence, config, jsonl, models, progress, prompts, records, runtime, traces
from deepprune.config import setting
from deepprune.errors import UserError, command
from deepprune.manifest import Manifest
from deepprune.sampling import SamplingSettings, check_context


@dataclasses.dataclass
class SampleSettings(SamplingSettings):
    problems: str = setting(config.REQUIRED, "JSONL file of Problem records")
    model: str = setting(config.REQUIRED, "the reasoner: local folder, hub id, or packaged fallback")
    output: str = setting(config.REQUIRED, "JSONL file of Trace records; appended to when it exists", ends=config.JSONL)
    model_name: str | None = setting(None, "name to record instead of --model (for local folders)")
    n: int = setting(16, "traces a problem; may grow on resume", free=True, at_least=1)
    limit: int | None = setting(None, "only the first so many problems; may grow on resume", free=True, at_least=1)
    only: list[str] | None = setting(None, "only the problems with these ids")
    system: str | None = setting(None, "system message")
    suffix: str = setting(
        "\n\nThink step by step, then give the final answer in \\boxed{}.", "appended to each question"
    )
    seed: int = config.seed("engine seed (a resumed run derives another one from it)")
    confidence_top_k: int = setting(20, "log-probabilities averaged a token (DeepConf); 0: no confidence", at_least=0)
    confidence_window: int = setting(2048, "tokens in a confidence window", at_least=1)
    confidence_stride: int = setting(512, "keep a window mean every so many tokens", at_least=1)
    dtype: str = config.dtype("the weights' type in vLLM")
    max_model_len: int | None = setting(None, "context length in tokens (default: the model's)", free=True, at_least=1)
    max_num_seqs: int = setting(64, "traces generated at once", free=True, at_least=1)
    tensor_parallel: int = setting(1, "GPUs that share one copy of the model", free=True, at_least=1)
    data_parallel: int = setting(1, "copies of the model", free=True, at_least=1)
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(SampleSettings, "sample", __doc__)
    check_context(settings.max_tokens, settings.max_model_len)
    settings.sampling()  # checked before anything starts
    problems = list(records.read_problems(settings.problems).values())
    if settings.only:
        missing = set(settings.only) - {p.problem_id for p in problems}
        if missing:
            raise UserError(f"{settings.problems}: holds no problem {min(missing)} (--only)")
        problems = [p for p in problems if p.problem_id in settings.only]
    problems = problems[: settings.limit]
    runtime.ensure()
    model = models.resolve(settings.model)
    name = settings.model_name or model.name
    made_from = config.resolved(settings) | {"model_name": name}
    made_from.pop("problems"), made_from.pop("model")
    manifest = Manifest.open(
        settings.output, "sample", made_from, [settings.problems], config.free_settings(SampleSettings),
        settings.overwrite, {"reasoner": f"{name} ({model.source})"},
    )  # fmt: skip
    with manifest.appender() as out:
        if out.repaired:
            print(f"{settings.output}: removed a cut-off last line left by a killed run")
        done = {(t.problem_id, t.sample_index) for t in records.read(records.Trace, settings.output)}
        todo = [(p, i) for p in problems for i in range(settings.n) if (p.problem_id, i) not in done]
        print(f"{len(problems)} problems x {settings.n} traces: {len(done)} on disk, {len(todo)} to sample")
        if todo:
            sample(settings, model.path, name, todo, len(done), out)
    everything = list(records.read(records.Trace, settings.output))
    by_id = {p.problem_id: p for p in problems}
    table = traces.print_summary([t for t in everything if t.problem_id in by_id], by_id)
    manifest.finish(len(everything), summary=table)


def sample(settings: SampleSettings, path: str, name: str, todo: list, done: int, out: jsonl.Appender) -> None:
    """Generate the missing (problem, sample index) traces and append each as it finishes."""
    from transformers import AutoTokenizer

    from deepprune import engine

    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts.reasoner_prompt_ids(tokenizer, todo[0][0].question, settings.system)  # refused before the engine starts
    seed = engine.resume_seed(settings.seed, done)
    with engine.running(
        path, seed=seed, dtype=settings.dtype, max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs, tensor_parallel=settings.tensor_parallel,
        data_parallel=settings.data_parallel, max_logprobs=max(settings.confidence_top_k, 1),
    ) as llm:  # fmt: skip
        generate(settings, llm, tokenizer, name, todo, seed, out)


def generate(settings: SampleSettings, llm, tokenizer, name: str, todo: list, seed: int, out: jsonl.Appender) -> None:
    """Sample in a running engine. Raises UserError for a question that is longer than the model's context."""
    from vllm import SamplingParams

    from deepprune import engine

    top_k, longest = settings.confidence_top_k, llm.llm_engine.model_config.max_model_len
    params = SamplingParams(**settings.sampling().recorded(), logprobs=top_k or None, detokenize=True)
    sampling = settings.sampling().recorded() | {
        "system": settings.system, "suffix": settings.suffix, "seed": settings.seed, "engine_seed": seed,
        "dtype": settings.dtype,
    }  # fmt: skip
    open_requests = {}

    def requests():
        for problem, index in todo:
            ids = prompts.reasoner_prompt_ids(tokenizer, problem.question, settings.system, settings.suffix)
            if len(ids) >= longest:
                raise UserError(f"problem {problem.problem_id}: its prompt is {len(ids)} tokens, {name} reads {longest - 1} at most: raise "
                                "--max-model-len")  # fmt: skip
            request = f"{problem.problem_id}/{index}"
            open_requests[request] = (problem, index)
            yield request, {"prompt_token_ids": ids}, params

    tokens = 0
    with progress.bar(total=len(todo), desc="traces", unit="trace") as bar:
        for request, output in engine.run(llm, requests(), window=2 * settings.max_num_seqs):
            problem, index = open_requests.pop(request)
            completion = output.outputs[0]
            summary = None
            if top_k and completion.logprobs:
                per_token = [
                    confidence.token_confidence(sorted((p.logprob for p in at.values()), reverse=True)[:top_k])
                    for at in completion.logprobs
                ]
                summary = confidence.summarise(per_token, top_k, settings.confidence_window, settings.confidence_stride)
            trace = traces.make(
                problem, name, index, completion.text, max(1, len(completion.token_ids)),
                completion.finish_reason or "unknown", sampling, summary,
            )  # fmt: skip
            out.append(records.to_row(trace))
            tokens += len(completion.token_ids)
            bar.update()
            bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):.0f} tokens/s", refresh=False)


if __name__ == "__main__":
    main()
