"""What a run folder holds, and how somebody else may change it."""

import hashlib
import json
import os
from pathlib import Path


def content(folder, depth=9):
    """Every file below a folder by its path, with a hash of what it holds; and every name of a folder."""
    found = {}
    for here, folders, files in os.walk(folder):
        level = here.removeprefix(str(folder)).count("/") + 1
        found |= {f"{here}/{name}": "folder" for name in folders}
        for name in files:
            path = f"{here}/{name}"
            is_file = os.path.isfile(path) and not os.path.islink(path)
            found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if is_file else "no file"
        folders[:] = folders if level < depth else []
    return found


def rewrite(path, **changes):
    """Change what a JSON file says."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
