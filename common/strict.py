"""How every group of settings is checked."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
"""Nothing that is misspelt, and no number without an end; a setting that may be infinite would say so in its type."""
