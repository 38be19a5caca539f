"""RLlib's own SAC: settings only; the algorithm is stock."""
