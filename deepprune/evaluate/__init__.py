"""Numbers and pages: baselines, comparison of methods, simulation, ablation, judge study, report, figures.

Stands on all the others.
"""
