"""From a run's settings to a Tuner: algorithms, trainables, callbacks, and carrying on."""
