"""Runs that are kept in an object store."""
