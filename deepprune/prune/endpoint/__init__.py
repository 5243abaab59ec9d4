"""An OpenAI-compatible endpoint that answers a question by many traces and a vote (Online/serve.py, docs/serve.md)."""
