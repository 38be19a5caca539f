"""Public benchmarks of cooperation: the packages' own environments, and replicas of some that are stepped as one."""
