"""Names of baselines that a command line needs before anything heavy is loaded."""

from __future__ import annotations

RANDOM = "random"
"""Stands beside the rules: draws from the actions of the strategy's own agents."""
DEFAULT_BASELINES = ("cash", "buy_and_hold", "equal_weight", "minimum_variance", "momentum", RANDOM)
"""What a strategy is held against where nothing else is asked for; each is one more pass through the split."""
