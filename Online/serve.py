"""An OpenAI-compatible endpoint: a question in, the answer of a vote of many traces out, by the method of the model.

    python Online/serve.py --reasoner Qwen/Qwen3-8B --reasoner-url http://127.0.0.1:8000/v1 --log results/answers.jsonl
    python Online/serve.py --config scripts/recipes/cpu.yaml --reasoner HuggingFaceTB/SmolLM2-135M-Instruct \
        --max-tokens 256 --judge sbert --judge-model sentence-transformers/all-MiniLM-L6-v2 --port 8080

Reasoner and judge are those of Online/live_pruning.py: engines of this process, or servers (--reasoner-url,
--judge-url). Models are named NAME-METHOD-N: Qwen3-8B-adaptive-16 answers by Adaptive-Consistency with at most 16
traces. Says where it listens and which models it offers when it is ready. Ctrl-C or SIGTERM: no new question is taken,
those in progress have --grace-seconds. What is supported, counted, refused and logged: docs/serve.md.
"""

import asyncio

from deepprune.base import config
from deepprune.base.stage import command
from deepprune.prune.endpoint import server
from deepprune.prune.endpoint.settings import ServeSettings
from deepprune.prune.live_setup import check_sources


@command
def main() -> None:
    settings = config.parse(ServeSettings, "serve", __doc__)
    check_sources(settings)
    settings.key(), settings.catalogue  # refused before anything is opened
    asyncio.run(server.serve(settings))


if __name__ == "__main__":
    main()
