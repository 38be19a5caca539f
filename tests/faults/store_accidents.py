"""What can happen to a run that is kept in an object store: lost machines, damaged objects, cut uploads, silence."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from commands import MARKET, Started, summary
from comparing import differences
from killing import CLOCK, RUNS, freezer_path
from stores import Endpoint

from experiments.remote.addresses import working_folder
from experiments.remote.lease import LEASE_FILE

SILENCE_S = 1_500
"""How long a command may take whose store never answers: it is patient, and several times."""
WORDS = [*MARKET, *CLOCK, *RUNS["qmix"]]


class Run:
    """A run in a store, on machines with working folders of their own."""

    def __init__(self, store: Endpoint, folder: Path, name: str) -> None:
        self.store, self.folder, self.name = store, folder / name, name
        self.folder.mkdir(parents=True)

    def here(self, machine: str) -> Path:
        """The run's working folder on a machine."""
        return self.folder / machine / working_folder(self.store.storage, self.name).parent.name / self.name

    def start(self, machine: str, **env: str) -> Started:
        out = self.folder / f"{machine}.{time.monotonic_ns()}.out"
        env = self.store.env(self.folder / machine) | env
        return Started(self.here(machine), *WORDS, env=env, out=out, storage=self.store.storage)

    def finish(self, machine: str, reference: Path) -> str:
        """Give the command again and compare; empty where it ends as the run that nothing happened to."""
        with self.start(machine) as started:
            code = started.process.wait(240)
        if code:
            return f"exit {code}: {started.out.read_text()[-800:]}"
        return str(differences(self.here(machine), reference) or "")

    def interrupted(self, machine: str, episodes: int = 48) -> None:
        """Train on a machine, and kill it there."""
        with self.start(machine) as started:
            started.wait_for_episodes(episodes)
            started.kill()

    def lose(self) -> None:
        """Let the lease of a machine that is gone run out, as it does within a minute."""
        name = f"{self.name}/{LEASE_FILE}"
        lease = json.loads(self.store.read(name)) | {"renewed": "2026-01-01T00:00:00+00:00"}
        self.store.write(name, json.dumps(lease).encode())

    def checkpoints(self) -> list[str]:
        """Names of the checkpoints in the store, oldest first."""
        found = self.store.objects(f"{self.name}/trial_0/")
        return sorted({n.split("/")[2] for n in found if "/checkpoint_" in n and n.endswith("/COMPLETE")})

    def pack(self) -> str:
        """Name of the newest checkpoint's pack."""
        below = f"{self.name}/trial_0/{self.checkpoints()[-1]}/"
        return next(n for n in self.store.objects(below) if "/pack-" in n)


def lost_machine(run: Run, reference: Path) -> str:
    """The machine is gone, with its disk; the same command on another one carries on."""
    run.interrupted("first")
    run.lose()
    return run.finish("second", reference)


def same_machine(run: Run, reference: Path) -> str:
    """The command is killed; on the same machine it carries on from its own folder."""
    run.interrupted("first")
    return run.finish("first", reference)


def _damaged(hurt: Callable[[Endpoint, str], object]) -> Callable[[Run, Path], str]:
    def happen(run: Run, reference: Path) -> str:
        run.interrupted("first")
        newest = run.checkpoints()[-1]
        hurt(run.store, run.pack())
        run.lose()
        fault = run.finish("second", reference)
        aside = [n for n in run.store.objects(f"{run.name}/trial_0/") if f"/damaged-{newest}/" in n]
        return fault or ("" if aside else "nothing was set aside in the store")

    return happen


def _flipped(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def cut_upload(run: Run, reference: Path) -> str:
    """The machine dies in the middle of an upload of a checkpoint, pack and marker apart."""
    marker = run.folder / "frozen"
    at = {"FREEZE_AT": "common.store:Store.upload:after:3", "FREEZE_MARKER": str(marker)}
    with run.start("first", PYTHONPATH=freezer_path(), **at) as started:
        deadline = time.monotonic() + 180
        while not marker.exists() and started.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if not marker.exists():
            return f"never came to the upload: {started.out.read_text()[-600:]}"
        started.kill()
    run.lose()
    return run.finish("second", reference)


def silent_store(run: Run, reference: Path) -> str:
    """The endpoint goes away for 20 s in the middle of a run, a save included; training waits and goes on."""
    with run.start("first") as started:
        started.wait_for_episodes(16)
        run.store.go_away()
        timer = threading.Timer(20.0, run.store.come_back)
        timer.start()
        try:
            code = started.process.wait(240)
        finally:
            timer.join()
    if code:
        return f"exit {code}: {started.out.read_text()[-800:]}"
    fault = str(differences(run.here("first"), reference) or "")
    return fault or ("" if run.checkpoints()[-1:] == [_latest(run)] else "the last checkpoint is not in the store")


def silent_to_the_end(run: Run, reference: Path) -> str:
    """The endpoint goes away for good: the run ends and says that it could not bring its last files; the same command
    does so as soon as the endpoint is back."""
    with run.start("first") as started:
        started.wait_for_episodes(48)
        run.store.go_away()
        try:
            code = started.process.wait(SILENCE_S)
        finally:
            run.store.come_back()
    said = started.out.read_text()
    if code != 1 or "the store did not take the last files" not in said or "Traceback" in said:
        return f"exit {code} without the store answering: {said[-800:]}"
    fault = run.finish("first", reference)
    return fault or ("" if run.checkpoints()[-1:] == [_latest(run)] else "the last checkpoint is not in the store")


def taken_over(run: Run, reference: Path) -> str:
    """Another machine takes the run over while this one still trains: this one stops, and writes nothing there."""
    other = {"owner": "x", "host": "elsewhere", "pid": 7, "renewed": "2026-01-01T00:00:00+00:00"}
    with run.start("first") as started:
        started.wait_for_episodes(16)
        run.store.write(f"{run.name}/{LEASE_FILE}", json.dumps(other).encode())
        code = started.process.wait(240)
    said = started.out.read_text()
    if code != 1 or "has been taken over by process 7 on elsewhere" not in said or "Traceback" in said:
        return f"exit {code} although another machine has the run: {said[-800:]}"
    if json.loads(run.store.read(f"{run.name}/{LEASE_FILE}")) != other:
        return "the other machine's lease was not left alone"
    return run.finish("second", reference)


def _latest(run: Run) -> str:
    return Path(summary(run.here("first"))["latest_checkpoint"]).name


STORE_ACCIDENTS: dict[str, Callable[[Run, Path], str]] = {
    "the machine is lost": lost_machine,
    "killed, same machine": same_machine,
    "truncated object": _damaged(lambda store, name: store.write(name, store.read(name)[:1000])),
    "missing object": _damaged(lambda store, name: store.delete(name)),
    "flipped byte in an object": _damaged(lambda store, name: store.write(name, _flipped(store.read(name)))),
    "upload cut in the middle": cut_upload,
    "endpoint away for 20 s": silent_store,
    "endpoint away until the end": silent_to_the_end,
    "another machine takes over": taken_over,
}
SILENCES = ("endpoint away until the end", "endpoint away for 20 s")
"""Those that stop the store for every run that is kept there, and mostly wait."""
