"""What is installed: the lock holds every package that pyproject.toml asks for, with the hash of its file."""

import platform
import re
import tomllib

import pytest
from commands import ROOT
from packaging.requirements import Requirement

import install

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGE = re.compile(
    r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n)", re.M
)
LOCKS = pytest.mark.parametrize("lock", [install.HERE, install.NODE], ids=lambda lock: lock.path.name)
EXTRAS = PROJECT["optional-dependencies"]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def plain_pins(lock):
    return {plain(name): version for name, version in install.pins(lock).items()}


@LOCKS
def test_every_line_is_of_a_pin_with_its_hashes(lock):
    head, _, rest = lock.path.read_text().partition("\n")
    assert head.startswith("# For Linux x86_64 CPython 3.")
    assert PACKAGE.subn("", rest) == ("", len(install.pins(lock)))


@LOCKS
def test_lock_holds_what_is_asked_for(lock):
    texts = [*PROJECT["dependencies"], *(text for extra in lock.extras for text in EXTRAS[extra])]
    texts += EXTRAS["marl"] if "dev" in lock.extras else []
    pins = plain_pins(lock)
    for wanted in map(Requirement, texts):
        if wanted.name != "trading-floor":
            assert wanted.specifier.contains(pins[plain(wanted.name)]), wanted


def test_nodes_of_a_cluster_have_the_versions_that_were_tested():
    tested = {name: version.partition("+")[0] for name, version in plain_pins(install.HERE).items()}
    nodes = plain_pins(install.NODE)
    assert {name: version for name, version in nodes.items() if name in tested} == {
        name: version for name, version in tested.items() if name in nodes
    }
    assert nodes["torch"] == install.TORCH.partition("==")[2]
    assert any(name.startswith("nvidia-cudnn") for name in nodes), "with CUDA"


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
    assert ("--require-hashes", "-r", str(install.HERE.path)) in installed
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


def test_nodes_install_from_a_lock_of_their_own(installed, monkeypatch, capsys):
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "12", "3"))
    assert install.main(["--cluster"]) == 0
    assert ("--require-hashes", "-r", str(install.NODE.path)) in installed
    assert capsys.readouterr().out == ""
