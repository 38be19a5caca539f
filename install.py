"""Install trading-floor into the Python that runs this, from requirements.lock where that is of its kind.

``python install.py`` checks every file against its SHA-256. Where the lock does not fit, it says so in one line and
takes the ranges of pyproject.toml. ``python install.py --lock`` writes the lock anew. Python and pip are all it needs.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCK = ROOT / "requirements.lock"
KIND = ("Linux", "x86_64", "CPython", "3.11")
"""Of the machine and the Python that the lock is for; its torch is the one without CUDA."""
TORCH = "torch==2.13.0"
EXTRAS = ("dev", "cluster")
TOOLS = ("pip", "setuptools>=77")
"""What installs the rest, and builds this package."""


def main(argv: list[str]) -> int:
    """Install, or write the lock; returns pip's exit code."""
    if argv == ["--lock"]:
        return lock()
    why = why_not_locked()
    if why is not None:
        print(f"requirements.lock is not used ({why}): installing within the ranges of pyproject.toml", flush=True)
        return pip("--upgrade", "pip") or pip(TORCH, "--editable", f"{ROOT}[{','.join(EXTRAS)}]")
    return pip("--require-hashes", "-r", str(LOCK)) or pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def why_not_locked() -> str | None:
    """Why the lock cannot be used here; None where it can."""
    version = ".".join(platform.python_version_tuple()[:2])
    here = (platform.system(), platform.machine(), platform.python_implementation(), version)
    if here != KIND:
        return f"it is for {' '.join(KIND)}, this is {' '.join(here)}"
    pinned = next(
        line.split()[0] for line in LOCK.read_text(encoding="utf-8").splitlines() if line.startswith("torch==")
    )
    if pip("--dry-run", "--no-deps", "--ignore-installed", pinned, is_told=False):
        return f"no package index that pip knows has {pinned}"
    return None


def lock() -> int:
    """Write the lock: what pip would install here today, with the SHA-256 of each file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        wanted = (*TOOLS, TORCH, f"{ROOT}[{','.join(EXTRAS)}]")
        if code := pip("--dry-run", "--ignore-installed", "--report", str(report), *wanted):
            return code
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    pins = {item["metadata"]["name"].lower(): pin(item) for item in found if "archive_info" in item["download_info"]}
    head = f"# For {' '.join(KIND)}; written by `make lock`, read by install.py.\n"
    LOCK.write_text(head + "".join(pins[name] for name in sorted(pins)), encoding="utf-8")
    print(f"{len(pins)} packages: {LOCK}")
    return 0


def pin(item: dict) -> str:
    """The lines of one package."""
    about, sha256 = item["metadata"], item["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{about['name']}=={about['version']} \\\n    --hash=sha256:{sha256}\n"


def pip(*words: str, is_told: bool = True) -> int:
    """Let pip install something; returns its exit code."""
    silent = None if is_told else subprocess.DEVNULL
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=False, stdout=silent, stderr=silent).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
