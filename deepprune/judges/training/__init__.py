"""Training a judge with LLaMA-Factory: the recipe's keys, the rows, the loss, what stops it, and where it goes on."""
