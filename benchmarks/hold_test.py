"""What finding the end of a prefix costs a live run's event loop: 512 prefixes of 2,000 tokens, a token at a time.

    python benchmarks/hold_test.py

Live pruning asks after every token whether a trace's prefix is complete. `Truncation.watch` looks at new text only;
cutting the whole text each time (by words after every token, by tokens after every 16th, as before) is timed on
--sample prefixes and scaled. Prints CPU seconds of both and their ratio.
"""

import dataclasses
import itertools
import random
import time

from transformers import AutoTokenizer

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.data.reasoning_words import REASONING_WORDS
from deepprune.data.truncation import Truncation
from deepprune.engines import models

TEXT = "we add the two numbers 12 and 30 \\frac{1}{2} x = 4. The sum is\n\n equal to this value, which divides it by 7"
FILLER = TEXT.split(" ")


def pieces_of(seed: int, tokens: int, tokenizer) -> list[str]:
    """The text of so many tokens, token by token; about every 12th word is a reasoning word."""
    rng = random.Random(seed)
    words = [rng.choice(REASONING_WORDS if rng.random() < 1 / 12 else FILLER) for _ in range(tokens)]
    text = " ".join(words)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"][:tokens]
    ends = [0, *(end for _, end in offsets)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def watched(pieces: list[str], cut: Truncation, tokenizer) -> None:
    """As live pruning does."""
    watch = cut.watch(tokenizer)
    for piece in pieces:
        watch.add(piece)


def cut_again(pieces: list[str], cut: Truncation, tokenizer) -> None:
    """The whole text each time."""
    text, every = "", 16 if cut.strategy == "tokens" else 1
    for number, piece in enumerate(pieces, 1):
        text += piece
        if number % every == 0:
            len(cut.cut(text, tokenizer))


def seconds(work, prefixes: list[list[str]], cut: Truncation, tokenizer) -> float:
    """CPU seconds of `work` on all prefixes."""
    started = time.process_time()
    for pieces in prefixes:
        work(pieces, cut, tokenizer)
    return time.process_time() - started


@dataclasses.dataclass
class HoldSettings:
    prefixes: int = setting(512, "prefixes", at_least=1)
    tokens: int = setting(2000, "tokens of a prefix", at_least=1)
    sample: int = setting(2, "prefixes to time the old way on", at_least=1)
    tokenizer: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "model whose tokenizer counts")


@command
def main() -> None:
    args = config.parse(HoldSettings, None, __doc__)
    tokenizer = AutoTokenizer.from_pretrained(models.resolve(args.tokenizer).path)
    prefixes = [pieces_of(seed, args.tokens, tokenizer) for seed in range(args.prefixes)]
    print(f"{args.prefixes} prefixes of {args.tokens:,} tokens, CPU seconds in all")
    for strategy, k in (("words", 10**6), ("tokens", args.tokens)):
        cut = Truncation(strategy, k)
        new = seconds(watched, prefixes, cut, tokenizer)
        old = seconds(cut_again, prefixes[: args.sample], cut, tokenizer) * args.prefixes / args.sample
        whole = f"whole text {old:8.0f} (from {args.sample})"
        print(f"  {strategy:<7} new text only {new:6.1f}   {whole}   ratio {old / new:.0f}")


if __name__ == "__main__":
    main()
