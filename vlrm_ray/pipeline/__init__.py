"""The pipeline of a run: rounds, the Ray Data graph, and everything they need around them.

rounds.py           runs a round's stages, commits their results, resumes
graph.py            the Ray Data graph from prompts to selected critiques
stage_actors.py     the actors that the graph is given
prompts.py          reads the prompts of a round
row_accounting.py   a stage's table and row counts of a part
part_statistics.py  a part's margins, verdicts and pairs as counts
cluster.py          joins a Ray cluster or starts a local one
resource_plan.py    the resources that a run needs, compared with the cluster's
placement.py        labels and resources of the cluster's nodes, compared with what the run places on them
preflight.py        checks the inputs before anything starts
doctor.py           lists everything that would be in the way of a run; machine.py examines this machine
recorder.py         records the metrics of a run in Ray
progress.py         progress lines for the terminal or a log
background.py       work repeated in the background of the driver
run_metrics.py      `metrics.jsonl`
training_steps.py   the records of training steps, for `metrics.jsonl`, the progress line and the report
"""
