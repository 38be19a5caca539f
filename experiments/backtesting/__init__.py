"""Backtests: a policy and its baselines, bar by bar, through one floor at the same costs."""
