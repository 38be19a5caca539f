"""Training under Tune: one run or a search, started or carried on."""

import experiments.builders  # noqa: F401 - first, as Ray reads what is set there when its parts are imported
