"""Scores -> clusters -> vote: the clustering rule, finish rules, costs, recorded and live traces.

Stands on base, data, engines and judges.
"""
