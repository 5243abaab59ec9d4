"""Scores -> clusters -> vote: methods and what runs them on recorded and live traces, clustering, finish rules, costs.

Stands on base, data, engines and judges.
"""
