"""The pipeline of a run: rounds, the Ray Data graph, and everything they need around them.

A round:

rounds.py            runs a round's stages, commits their results, resumes (start reading here)
part_stream.py       the parts of a round that are still to be made, and the graphs that make them
graph.py             the Ray Data graph from prompts to selected critiques
begun_graph.py       a graph that runs before its tables are asked for
stage_actors.py      the actors that the graph is given
stages/              the stages of the graph
ahead.py             work on the next round in a thread, while the round before trains
board_client.py      what the driver asks the progress board
engine_calls.py      calls of actors, with a timeout
scaling.py           when the number of engines changes
evaluators.py        what a run is measured by after each round
stopping.py          when a run ends

Prompts, and what becomes of them:

prompts.py           reads the prompts of a round
prompt_source.py     the prompts of a source as columns
prompt_index.py      those of a file with images, stored with the run
prompt_rows.py       a prompt from a row of a file
holdout.py           the images that no reward model is trained on
quarantine.py        stops a run of which too many prompts cannot be used
remedies.py          what to do about rows that were lost
refusals.py          whether it is an engine's own fault that it refuses requests
row_accounting.py    a stage's table and row counts of a part
row_counts.py        rows in, kept, dropped and quarantined of a stage
training_tables.py   the tables of a part that training reads
training_words.py    what words alone tell of the pairs of a round
part_statistics.py   a part's margins, verdicts and pairs as counts

Before anything starts:

run_config.py        what determines a run's results does not change when it resumes
preflight.py         checks the inputs before anything starts
doctor.py            lists everything that would be in the way of a run
machine.py           examines this machine for it
resource_plan.py     the resources that a run needs, compared with the cluster's
placement.py         labels and resources of the cluster's nodes, compared with what the run places on them
cluster.py           joins a Ray cluster or starts a local one
cluster_probe.py     checks a cluster before it is joined
loopback.py          a cluster that only this machine can reach

What a run shows of itself:

progress.py          progress lines for the terminal or a log
background.py        work in threads of the driver: once, or repeated
monitor.py           shows what a run does, in Ray's metrics and in experiment trackers
recorder.py          records the metrics of a run in Ray
usage.py             how busy engines, experts and train workers are, for the metrics
trackers.py          TensorBoard, wandb and MLflow
run_metrics.py       `metrics/` of a run: engines, training steps and nodes over time
training_steps.py    the records of training steps, for `metrics/`, the progress line and the report
node_watch.py        the number of nodes over time, for `metrics/`
stage_clock.py       how long the stages of a round take, and what they cost
utilization.py       how busy the GPUs were, and how they would be divided best
"""
