"""The list-wise judge: one prompt for a new trace and one representative of every open cluster (ours, not the paper's).

Trained like the pairwise judge (Offline/build_pair_dataset.py --lists-per-problem, LLaMA-Factory/train.py). Its calls do not
grow with the number of clusters, and the representatives come first in the prompt, from the prefix cache.
"""

from __future__ import annotations

import math

from deepprune import engine, prompts
from deepprune.judges import Score, better, mass
from deepprune.judges.vllm import VLLMJudge


class ListwiseJudge(VLLMJudge):
    """p_same of the likeliest representative = 1 - p(none); of the others less, in proportion to their letters' probabilities.

    Clusters with the same answer share its probability between their letters: whether the trace is like any is not for one
    letter to say.

    Neighbouring requests of one new trace are one prompt (clustering with comparisons 'listwise' asks so); prompt tokens and
    the call are counted with the first of them. A score depends on what else is in the prompt: not for a score store.
    """

    LABELS = prompts.LIST_LABELS

    def _stream(self, requests):
        groups: list[list[tuple[int, object]]] = []
        for position, r in enumerate(requests):
            last = groups[-1][-1][1] if groups else None
            if last and (last.question, last.trace_b, last.prefix_b) == (r.question, r.trace_b, r.prefix_b):
                groups[-1].append((position, r))
            else:
                groups.append([(position, r)])
        labels = self.labels
        params = {size: self._params(labels[: size + 1]) for size in {len(group) for group in groups}}

        def prompts_of():
            for number, group in enumerate(groups):
                asked = [r for _, r in group]
                yield str(number), self._prompt(self._ids(asked), asked[0].trace_b), params[len(group)]

        for number, output in engine.run(self.llm, prompts_of(), self.window):
            at = output.outputs[0].logprobs[0]
            group = groups[int(number)]
            none, *letters = given = [at[label].logprob for label in labels[: len(group) + 1]]
            top = max(letters)
            shares = [math.exp(letter - top) for letter in letters]
            p_any = better(math.log(sum(shares)) + top, none)
            for (position, _), share in zip(group, shares, strict=True):
                p_same = p_any * share
                if position == group[0][0]:
                    cached = output.num_cached_tokens or 0
                    yield position, Score(p_same, len(output.prompt_token_ids), cached, label_mass=mass(given))
                else:
                    yield position, Score(p_same, calls=0)

    def _ids(self, asked):
        new = asked[0]
        return prompts.list_prompt_ids(self.tokenizer, new.question, [r.prefix_a for r in asked], new.prefix_b)
