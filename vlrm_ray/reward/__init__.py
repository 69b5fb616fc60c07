"""The generative reward model: training data, training, publishing and calibration.

examples.py             selected pairs -> training examples (the loss formula is there), batches
collator.py             examples -> model inputs and per-token loss weights
fit.py                  one Ray Train run, started by the driver
task.py, entry.py       what is sent to the train workers; free of torch imports
train_loop.py           the training loop of a worker: FSDP2, AdamW, checkpoints
publish.py              writes the trained model as a Hugging Face folder with a card
model_folder.py         checks a model folder before anything loads it
canary.py               checks that an engine has loaded a published version
temperature_scaling.py  calibrates the reward with one parameter
"""
