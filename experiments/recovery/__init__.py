"""Checkpoints that are whole or not there: atomic publishing, verification, retention."""
