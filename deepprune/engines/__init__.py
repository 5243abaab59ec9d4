"""What generates and trains: models, vLLM in this process or behind a URL, LLaMA-Factory.

Stands on base and data.
"""
