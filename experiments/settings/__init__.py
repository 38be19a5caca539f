"""What can be set for a run, how layers of settings are laid over one another, and how they are read."""
