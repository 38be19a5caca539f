"""A hyperparameter search under Tune, carried on from its own record."""
