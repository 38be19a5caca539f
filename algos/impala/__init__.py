"""RLlib's own IMPALA and APPO: settings, masks, and learners that a run can be continued with exactly."""
