"""A Llama with random weights, for checks and tests: small, fast, and wrong about everything."""

from __future__ import annotations

from pathlib import Path


def save(
    folder: str | Path,
    tokenizer: str | Path,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int = 2,
    context: int = 1024,
    spread: float = 0.3,
) -> str:
    """Write a model into `folder`, with the tokenizer of another model's folder; returns the folder.

    hidden: size of a token's vector (twice that in the MLP); context: tokens; spread: the weights' standard deviation,
    of which p_same depends on the input from about 0.1 on. The same arguments give the same weights.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    words = AutoTokenizer.from_pretrained(tokenizer)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        initializer_range=spread,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)
