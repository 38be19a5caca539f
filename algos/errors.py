"""The error that a person caused and a person can mend."""


class IncompatibleError(ValueError):
    """A checkpoint, environment or setting does not fit the algorithm; the message says what differs and what to do."""
