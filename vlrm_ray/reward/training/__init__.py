"""Training of the reward model on a round's selected pairs.

Started by the driver:
fit.py                  one Ray Train run, with its retries
failures.py             puts the failures of workers into one line
task.py, entry.py       what is sent to the workers, and where they begin; free of torch imports
step_records.py         what each step did, and where it is sent

In each worker:
train_loop.py           the training loop
training_data.py        the round's selected pairs, read from the ledger
examples.py             selected pairs -> training examples (the loss formula is there), batches
collator.py             examples -> token trees -> micro-batches
packing.py              token trees: sequences without padding, with common beginnings once
loader.py               prepares micro-batches in background threads
packed_attention.py     attention over packed sequences, on GPU and CPU
losses.py               the model with its losses
sharded_model.py        builds the model without weights, shards it by FSDP2, loads it shard by shard
weight_files.py         reads parts of tensors from a folder's safetensors files
optimizer.py            AdamW, learning rate, averaged weights
flops.py                floating-point operations of a step, peaks of devices
checkpoints.py          sharded checkpoints, written in the background
checkpoint_reader.py    reads them without executing anything
temporary_folders.py    folders on this node, and the removal of what earlier attempts left
activity.py             what the worker is doing, for messages
"""
