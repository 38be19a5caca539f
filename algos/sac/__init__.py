"""RLlib's own SAC and TQC: settings only; the algorithms are stock."""
