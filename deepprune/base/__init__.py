"""What every stage stands on: records, JSONL files, manifests, settings, errors, progress, metrics.

Imports nothing else of deepprune.
"""
