"""What is installed: the lock holds every package that pyproject.toml asks for, with the hash of its file."""

import platform
import re
import tomllib

import pytest
from commands import ROOT
from packaging.requirements import Requirement

import install

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", install.LOCK.read_text(), flags=re.M))
EXTRAS = PROJECT["optional-dependencies"]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_line_is_a_pin_with_a_hash():
    lines = install.LOCK.read_text().splitlines()
    assert len(lines) == 1 + 2 * len(PINS)


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["marl"], *EXTRAS["cluster"]])
def test_lock_holds_what_is_asked_for(text):
    wanted, pins = Requirement(text), {plain(name): version for name, version in PINS.items()}
    if wanted.name != "trading-floor":
        assert wanted.specifier.contains(pins[plain(wanted.name)])


@pytest.fixture
def installed(monkeypatch):
    """What pip is asked to do."""
    asked = []
    monkeypatch.setattr(install, "pip", lambda *words, is_told=True: asked.append(words) or 0)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "11", "7"))
    return asked


def test_hashes_are_required_where_the_lock_fits(installed, capsys):
    assert install.main([]) == 0
    assert ("--require-hashes", "-r", str(install.LOCK)) in installed
    assert capsys.readouterr().out == ""


def test_another_python_is_told_that_the_ranges_are_taken(installed, monkeypatch, capsys):
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "12", "1"))
    assert install.main([]) == 0
    assert capsys.readouterr().out.startswith("requirements.lock is not used (it is for Linux x86_64 CPython 3.11, ")
    assert not any("--require-hashes" in words for words in installed)


def test_file_of_another_hash_ends_the_installation(installed, monkeypatch):
    monkeypatch.setattr(
        install, "pip", lambda *words, is_told=True: installed.append(words) or "--dry-run" not in words
    )
    assert install.main([]) == 1
    assert [words[0] for words in installed] == ["--dry-run", "--require-hashes"]
