"""RLlib's own DQN: settings only; the algorithm is stock."""
