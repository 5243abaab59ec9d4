"""Which arguments of chat templates are the user's to give."""

from __future__ import annotations

# What is no variable of a chat template but an argument of the tokenizer's method that fills it.
OURS = frozenset(
    "messages conversation tools documents chat_template add_generation_prompt continue_final_message tokenize padding "
    "truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs".split()
)
