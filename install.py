"""Install trading-floor into the Python that runs this, from a lock where there is one of its kind.

``python install.py`` takes requirements.lock, ``python install.py --cluster``, for a node of a cluster,
requirements-cluster.lock; every file is checked against its SHA-256. Where the lock does not fit, it says so in one
line and takes the ranges of pyproject.toml. ``python install.py --lock`` writes both anew. Python and pip are all it
needs.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"
TOOLS = ("pip", "setuptools>=77")
"""What installs the rest, and builds this package."""


class Lock(NamedTuple):
    """Packages of one version each, and the Python and the parts of this project that they are for."""

    path: Path
    python: str
    extras: tuple[str, ...]

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """Of the machine and the Python."""
        return ("Linux", "x86_64", "CPython", self.python)

    @property
    def project(self) -> str:
        """This package with its extras, as pip names it."""
        return f"{ROOT}[{','.join(self.extras)}]"


HERE = Lock(ROOT / "requirements.lock", "3.11", ("dev", "cluster"))
"""To work on it, and for CI; its torch is the one without CUDA."""
NODE = Lock(ROOT / "requirements-cluster.lock", "3.12", ("cluster",))
"""For the machines of cluster.yaml: the same versions, with CUDA."""


def main(argv: list[str]) -> int:
    """Install, or write the locks; returns pip's exit code."""
    if argv == ["--lock"]:
        return write_lock() or write_lock_of_nodes()
    lock = NODE if argv == ["--cluster"] else HERE
    why = why_not_locked(lock)
    if why is not None:
        print(f"{lock.path.name} is not used ({why}): installing within the ranges of pyproject.toml", flush=True)
        return pip("--upgrade", "pip") or pip(TORCH, "--editable", lock.project)
    return pip("--require-hashes", "-r", str(lock.path)) or pip(
        "--no-deps", "--no-build-isolation", "--editable", str(ROOT)
    )


def why_not_locked(lock: Lock) -> str | None:
    """Why a lock cannot be used here; None where it can."""
    version = ".".join(platform.python_version_tuple()[:2])
    here = (platform.system(), platform.machine(), platform.python_implementation(), version)
    if here != lock.kind:
        return f"it is for {' '.join(lock.kind)}, this is {' '.join(here)}"
    torch = f"torch=={pins(lock)['torch']}"
    if pip("--dry-run", "--no-deps", "--ignore-installed", torch, is_told=False):
        return f"no package index that pip knows has {torch}"
    return None


def pins(lock: Lock) -> dict[str, str]:
    """The version of each package, by its name in the lock."""
    lines = [line.split()[0] for line in lock.path.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()]
    return {name: version for name, _, version in (line.partition("==") for line in lines)}


def write_lock() -> int:
    """Write what pip would install here today, with the SHA-256 of each file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        if code := pip("--dry-run", "--ignore-installed", "--report", str(report), *TOOLS, TORCH, HERE.project):
            return code
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = {
        item["metadata"]["name"].lower(): pin(item) for item in found if "archive_info" in item["download_info"]
    }
    _write(HERE, "".join(packages[name] for name in sorted(packages)))
    return 0


def write_lock_of_nodes() -> int:
    """Write the same versions for the Python and the torch of a cluster, which are not here: uv resolves for others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if code := pip("--target", str(folder / "uv"), "uv"):
            return code
        same = [f"{package}=={version.partition('+')[0]}" for package, version in pins(HERE).items()]
        (folder / "same.txt").write_text("\n".join(same), encoding="utf-8")
        (folder / "tools.in").write_text("\n".join(TOOLS), encoding="utf-8")
        words = ["pyproject.toml", str(folder / "tools.in"), "--extra", "cluster", "--constraint", f"{folder}/same.txt"]
        words += ["--python-version", NODE.python, "--python-platform", "x86_64-manylinux_2_39"]
        words += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", f"{folder}/lock"]
        resolved = subprocess.run([str(folder / "uv" / "bin" / "uv"), "pip", "compile", *words], check=False, cwd=ROOT)
        if resolved.returncode == 0:
            _write(NODE, (folder / "lock").read_text(encoding="utf-8"))
        return resolved.returncode


def pin(item: dict) -> str:
    """The lines of one package."""
    about, sha256 = item["metadata"], item["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{about['name']}=={about['version']} \\\n    --hash=sha256:{sha256}\n"


def _write(lock: Lock, text: str) -> None:
    head = f"# For {' '.join(lock.kind)}; written by `make lock`, read by install.py.\n"
    lock.path.write_text(head + text, encoding="utf-8")
    print(f"{len(pins(lock))} packages: {lock.path}")


def pip(*words: str, is_told: bool = True) -> int:
    """Let pip install something; returns its exit code."""
    silent = None if is_told else subprocess.DEVNULL
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=False, stdout=silent, stderr=silent).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
