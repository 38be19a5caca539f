"""RLlib's PPO, fed by batched rollouts instead of episode objects."""
