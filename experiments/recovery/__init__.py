"""Checkpoints that are whole or not there: manifests, atomic publishing, verification, retention."""
