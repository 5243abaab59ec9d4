"""Problems, traces and pairs: where they come from, how an answer is read and compared, where a trace is cut.

Stands on base.
"""
