"""The study: compares the method with its ablations over several seeds. Run by `jobs/evaluate.py study`.

arms: the configurations that are compared.
oracle: error-free experts for the upper bound.
results: the record of each finished run, kept in study.json.
summary: estimates with confidence intervals over all runs.
page, plots: the summary as Markdown tables and SVG figures, for docs/results.md and the README.
"""
