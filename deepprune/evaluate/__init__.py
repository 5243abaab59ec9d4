"""Numbers and pages. Stands on all the others.

simulation                  judges of a chosen quality
methods                     every way to vote on the same traces; methods_table averages, methods_figures draws
question_sets               questions from files of answers, or of Trace records
posteriors, judge_pays      the method posterior in both; from which judge on one pays (judge_pays_figure draws)
study, ablation, paper      the judge study, the ablation grid, the paper's own figures
report                      a run's numbers; report_runs names its runs, report_page is the page
device_check                a device's numbers against a CPU's
tables, plotting            cells and Markdown; figures; judge_cost_figures those of benchmarks/judge_cost.py
"""
