"""Everything but a kill that can happen to a run: damaged files, full disks, signals, a second writer, dead workers."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from commands import MARKET, TIMEOUT_S, Started, checkpoints, readme_script, run_command, run_script, summary
from comparing import differences, of_places, of_saves
from killing import CLOCK, RUNS

from experiments.recovery.names import UNSAVED
from experiments.recovery.signals import AGAIN_S

WORDS = [*MARKET, *CLOCK, *RUNS["qmix"]]
SCALED = ["--scaling.num-env-runners", "2"]
HANG = ["--hang-timeout-s", "10"]
LEARNER = ["--scaling.num-learners", "1"]


def newest(folder: Path) -> Path:
    return checkpoints(folder)[-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def weights(folder: Path) -> Path:
    return newest(folder) / "weights.safetensors"


def state_file(folder: Path) -> Path:
    return sorted(folder.glob("experiment_state-*.json"))[-1]


def half_delete(checkpoint: Path) -> None:
    for path in sorted(p for p in checkpoint.rglob("*") if p.is_file())[::2]:
        path.unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing weights": lambda f: weights(f).unlink(),
    "missing file": lambda f: (newest(f) / "state.json").unlink(),
    "missing replay segment": lambda f: next(newest(f).glob("replay/*.open")).unlink(),
    "truncated file": lambda f: os.truncate(weights(f), 1000),
    "flipped byte": lambda f: flip(weights(f)),
    "empty file": lambda f: os.truncate(newest(f) / "state.safetensors", 0),
    "missing folder": lambda f: shutil.rmtree(newest(f)),
    "half-deleted checkpoint": lambda f: half_delete(newest(f)),
    "truncated tuner.pkl": lambda f: os.truncate(f / "tuner.pkl", 100),
    "missing tuner.pkl": lambda f: (f / "tuner.pkl").unlink(),
    "truncated experiment state": lambda f: os.truncate(state_file(f), 500),
    "missing experiment state": lambda f: [p.unlink() for p in f.glob("experiment_state-*.json")],
    "damaged summary.json": lambda f: os.truncate(f / "summary.json", 20),
    "half a line in result.json": lambda f: (f / "trial_0" / "result.json").open("a").write('{"training_iter'),
    "everything of Tune's": lambda f: [p.unlink() for p in (f / "tuner.pkl", *f.glob("experiment_state-*.json"))],
}
NOT_SET_ASIDE = (
    *("truncated tuner.pkl", "missing tuner.pkl", "truncated experiment state", "missing experiment state"),
    *("missing folder", "half a line in result.json", "everything of Tune's"),
)
"""Where nothing is left that could be, or it is Tune's, which nobody reads."""


def interrupted_run(folder: Path, words: list[str] = WORDS) -> Path:
    """A run that was killed after its third checkpoint."""
    with Started(folder, *words) as started:
        started.wait_for_episodes(48)
        started.kill()
    return folder


def carry_on_after(damage: str, interrupted: Path, folder: Path, reference: Path) -> str:
    """Damage a copy of an interrupted run, give the same command again, and compare; empty where all is as it was."""
    shutil.copytree(interrupted, folder)
    DAMAGE[damage](folder)
    ended = run_command(folder, *WORDS)
    if ended.returncode:
        return f"exit {ended.returncode}: {(ended.stdout + ended.stderr)[-600:]}"
    found = differences(folder, reference)
    found.pop("summary latest_checkpoint", None)  # the number of one that was set aside is not used again
    if found:
        return f"not exact: {found}"
    aside = [*folder.glob("damaged-*"), *folder.glob("trial_0/damaged-*")]
    if damage not in NOT_SET_ASIDE and not aside:
        return "nothing was set aside"
    if damage in NOT_SET_ASIDE and aside:
        return f"{aside[0].name} was set aside for no reason"
    if any(f"as {path.name}" not in ended.stdout for path in aside):
        return "nothing was said"
    if damage == "missing folder" and "is gone: the newest that is left" not in ended.stdout:
        return "nothing was said"
    return ""


def interrupted_by(number: int, folder: Path, reference: Path, *, everyone: bool = False) -> str:
    """Stop a run in good order, and carry on; empty where it is exact and nothing was lost."""
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(32)
        before = summary(folder)["episodes"]
        code = started.interrupt(number, everyone=everyone)
    if code != 130 or summary(folder)["status"] != "interrupted":
        return f"exit {code}, status {summary(folder)['status']}: {started.out.read_text()[-600:]}"
    if "a checkpoint is being written first" not in started.out.read_text():
        return "nothing was said"
    if not before <= summary(folder)["episodes"] < summary(folder)["target_episodes"]:
        return f"it has {summary(folder)['episodes']} episodes, after {before}"
    if run_command(folder, *WORDS).returncode:
        return "the same command failed"
    return str(differences(folder, reference, but=of_places) or "")


def stopped_at_once(folder: Path, reference: Path) -> str:
    """A second signal stops at once, whatever has become of the checkpoint that the first one asks for."""
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(16)
        for worker in started.workers("ray::"):  # none is written
            worker.suspend()
        started.process.send_signal(signal.SIGINT)
        time.sleep(2 * AGAIN_S)
        if started.process.poll() is not None:
            return "the checkpoint was not waited for"
        code = started.interrupt(signal.SIGINT)
    if code != 130:
        return f"exit {code}"
    if run_command(folder, *WORDS).returncode:
        return "the same command failed"
    return str(differences(folder, reference, but=of_places) or "")


def stopped_without_a_checkpoint(folder: Path, reference: Path) -> str:
    """The first signal stops a run that is asked to write no checkpoint then; empty where it carries on exactly."""
    with Started(folder, *WORDS, "--no-checkpoint-on-signal") as started:
        started.wait_for_episodes(16)
        code = started.interrupt(signal.SIGINT)
    if code != 130 or summary(folder)["status"] != "interrupted":
        return f"exit {code}, status {summary(folder)['status']}: {started.out.read_text()[-600:]}"
    if "a checkpoint is being written first" in started.out.read_text():
        return "it says that a checkpoint is written"
    if run_command(folder, *WORDS, "--no-checkpoint-on-signal").returncode:
        return "the same command failed"
    return str(differences(folder, reference) or "")


def carried_on_by_tune(folder: Path, reference: Path) -> str:
    """Kill a run at its first checkpoint, and carry it on by the README's script; empty where it is exact."""
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(8)
        started.kill()
    done = run_script(readme_script("Tuner.restore").replace("results/dow", str(folder)))
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr[-600:]}"
    return str(differences(folder, reference) or "")


def killed_by_itself(folder: Path, reference: Path) -> str:
    """Kill the command's own process, and none of those that it has started; empty where they end too."""
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(32)
        others = started.family()[1:]
        started.process.kill()
        started.process.wait(TIMEOUT_S)
        if run_command(folder, *WORDS).returncode:
            return "the same command failed"
        _, alive = psutil.wait_procs(others, timeout=TIMEOUT_S)
    if alive:
        return f"still there: {[p.name() for p in alive]}"
    return str(differences(folder, reference) or "")


def written_by_two(folder: Path, reference: Path) -> str:
    """A second command on a folder is refused, and told who has it; the first goes on as if nothing had been."""
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(16)
        started.process.send_signal(signal.SIGSTOP)  # it holds the folder, however long the second one takes to start
        second = run_command(folder, *WORDS)
        started.process.send_signal(signal.SIGCONT)
        if second.returncode != 2 or f"process {started.process.pid}" not in second.stderr:
            return f"exit {second.returncode}: {second.stderr}"
        if started.process.wait(TIMEOUT_S):
            return started.out.read_text()[-600:]
    return str(differences(folder, reference) or "")


def with_lost_workers(
    folder: Path, title: str, words: list[str], *, are_stopped: bool = False, count: int | None = None
) -> str:
    """Kill workers of a kind in the middle of a run, or stop them; empty where it ends by itself, whole.

    Args:
        folder: Of the run.
        title: What Ray calls them.
        words: Of the command.
        are_stopped: Whether they are stopped, not killed.
        count: How many; None for all. The others have to go on without a restart of the run.
    """
    with Started(folder, *WORDS, *words, *HANG) as started:
        started.wait_for_episodes(16)
        doomed = started.workers(title)[:count]
        if not doomed:
            return f"no worker is called {title}, but {[p.cmdline()[0] for p in started.workers('ray::')]}"
        for process in doomed:
            process.suspend() if are_stopped else process.kill()
        code = started.process.wait(TIMEOUT_S)
    text = started.out.read_text()
    told = [f"{process.pid} has stood still for" if are_stopped else f"{process.pid} on " for process in doomed]
    if any(words not in text for words in told) or "Traceback" in text:
        return f"it was not told in a line each: {text[-1200:]}"
    if count is not None and "it goes on from its newest checkpoint" in text:
        return f"the run was restarted although others were left: {text[-1200:]}"
    found = summary(folder)
    if code or found["status"] != "complete" or found["episodes"] < found["target_episodes"]:
        return f"exit {code}, {found['status']}, {found['episodes']} episodes: {text[-600:]}"
    return ""


def interrupted_while_hung(folder: Path, title: str, words: list[str], reference: Path | None = None) -> str:
    """Stop all workers of a kind, then the run by SIGINT; empty where it ends with a checkpoint, and goes on."""
    with Started(folder, *WORDS, *words, *HANG) as started:
        started.wait_for_episodes(16)
        for process in started.workers(title):
            process.suspend()
        code = started.interrupt()
    if code != 130 or summary(folder)["status"] != "interrupted":
        return f"exit {code}, status {summary(folder)['status']}: {started.out.read_text()[-600:]}"
    if run_command(folder, *WORDS, *words).returncode:
        return "the same command failed"
    return "" if reference is None else str(differences(folder, reference, but=of_places) or "")


def can_mount() -> bool:
    """Whether a small disk can be mounted here."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of a given size; only root can mount one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def on_a_full_disk(folder: Path, reference: Path, *, holds_all: bool = False) -> str:
    """Let the disk be full until a save has failed; empty where training went on and ended exactly.

    It is full for a second at a time: in between, there is room for what is printed on it.

    Args:
        folder: Where the disk is mounted.
        reference: A run that was left alone.
        holds_all: Whether what the command prints, and what Ray writes for itself, is on that disk too.
    """
    with small_disk(folder, 96 if holds_all else 64) as disk:
        run, ballast, scratch = disk / "run", disk / "ballast", disk / "r"
        env = os.environ | {"RAY_TMPDIR": str(scratch), "TMPDIR": str(scratch)} if holds_all else None
        scratch.mkdir()
        out = (disk if holds_all else folder.parent) / "full.out"
        with Started(run, *WORDS, out=out, env=env) as started:
            started.wait_for_episodes(16)
            before = whole = newest(run)
            while started.process.poll() is None:
                with ballast.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(1 << 12))
                _wait_for(started, UNSAVED, 1.0)  # on the full disk too, if what is printed lies elsewhere
                whole = newest(run)
                ballast.unlink()
                if _wait_for(started, UNSAVED, 0.2):
                    break
            code = started.process.wait(TIMEOUT_S)
        text = started.out.read_text()
        has_ended = holds_all and "the last checkpoint could not be saved" in text  # before there was room again
        if code == 1 and has_ended:
            code = run_command(run, *WORDS).returncode
        if UNSAVED not in text and not has_ended:
            return f"nothing was said: {text[-600:]}"
        if not before.exists() and whole < before:
            return "the last good checkpoint is gone"
        if code:
            return f"exit {code}: {text[-800:]}"
        return str(differences(run, reference, but=of_saves) or "")


def on_a_disk_that_stays_full(folder: Path, reference: Path) -> str:
    """Let the disk be full from the second checkpoint on; empty where the run has failed in words, and can be ended."""
    with small_disk(folder, 64) as disk:
        run, ballast = disk / "run", disk / "ballast"
        with Started(run, *WORDS, out=folder.parent / "stays_full.out") as started:
            started.wait_for_episodes(16)
            with ballast.open("wb", buffering=0) as file:
                while started.process.poll() is None:
                    with suppress(OSError):
                        while True:
                            file.write(bytes(1 << 12))
                    time.sleep(0.005)
            code, lines = started.process.wait(TIMEOUT_S), started.out.read_text().splitlines()
        if code != 1 or not re.match(r"error: the last checkpoint could not be saved \(.*No space left", lines[-1]):
            return f"exit {code}: {lines[-8:]}"
        if any("Traceback" in line for line in lines):
            return f"a traceback: {lines}"
        if summary(run)["status"] == "running" and not any(
            "it does not say yet that the run is failed" in x for x in lines
        ):
            return "nothing was said of the summary"
        ballast.unlink()
        if code := run_command(run, *WORDS).returncode:
            return f"the same command failed: {code}"
        return str(differences(run, reference, but=of_saves) or "")


def on_a_read_only_folder(folder: Path, reference: Path) -> str:
    """Let a run's folder be read-only for some saves; empty where training went on and ended exactly."""
    trial = str(folder / "trial_0")
    with Started(folder, *WORDS) as started:
        started.wait_for_episodes(16)
        subprocess.run(["mount", "--bind", trial, trial], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", trial], check=True)
            seen = _wait_for(started, UNSAVED)
        finally:
            subprocess.run(["umount", "-l", trial], check=True)
        code = started.process.wait(TIMEOUT_S)
    text = started.out.read_text()
    if not seen:
        return f"nothing was said: {text[-600:]}"
    if code:
        return f"exit {code}: {text[-800:]}"
    return str(differences(folder, reference, but=of_saves) or "")


def _wait_for(started: Started, words: str, seconds: float = TIMEOUT_S) -> bool:
    """Whether a command prints words before it ends, and before some time has passed."""
    deadline = time.monotonic() + seconds
    while started.process.poll() is None and time.monotonic() < deadline:
        if words in started.out.read_text():
            return True
        time.sleep(0.02)
    return words in started.out.read_text()
