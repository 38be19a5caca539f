"""The processes of a run, followed by the command: one that stands still is killed, one that has died is told.

What dies is replaced by those that have lost it: RLlib starts another env runner, Tune the whole trial again.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments.tuning.ray_internals import actors_of_this_job, last_line, messages_of_ray, unwanted_death
from experiments.tuning.trainable_names import PREFIX, is_trainable

LOOK_EVERY_S = 2.0
ANSWER_S = 5.0
"""How long another machine may take to say how its processes are; one that takes longer is asked again."""
_MOST_HEARD = 1000
"""Messages of Ray's that are looked through for why a process has died; the log has them all."""


class Worker(NamedTuple):
    """A process of the run: where it is, and its number there."""

    node: str
    pid: int


class ProcessWatch:
    """Looks at every process of the run, now and then.

    Each has threads of Ray's own that use a little processor time, whatever else it does: one that has used none for a
    while has been stopped, or cannot run. So a step of an environment may take as long as it likes.

    Args:
        hang_timeout_s: After how long one is killed that stands still, in seconds; 0: never.
        log: Takes all that Ray says of a death, for which the screen has one line.
    """

    def __init__(self, hang_timeout_s: float, log: Path) -> None:
        self.hang_timeout_s, self._log = hang_timeout_s, log
        self._actors: Mapping[str, Mapping[str, Any]] = {}
        self._used: dict[Worker, float] = {}
        self._still_s: dict[Worker, float] = {}
        self._killed: set[Worker] = set()
        self._heard: deque[str] = deque(maxlen=_MOST_HEARD)

    def hear(self, message: str) -> None:
        """Keep what Ray has to say, for the log and for those whose death it explains."""
        self._heard.append(message)
        note(self._log, message)

    def look(self) -> None:
        """Look once; called every ``LOOK_EVERY_S``."""
        before, self._actors = self._actors, actors_of_this_job()
        for actor_id, actor in self._actors.items():
            self._tell_death(before.get(actor_id, actor), actor)
        if self.hang_timeout_s:
            self._kill_what_stands_still()

    def _tell_death(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Say that a process has died since the last look, unless it was killed here, or Tune's monitor says it."""
        worker, is_replaced = worker_of(before), now["NumRestarts"] > before["NumRestarts"]
        reason = None if now["State"] == before["State"] else unwanted_death(now)
        if reason is not None:
            note(self._log, reason)
        if not (is_replaced or reason) or worker in self._killed or is_trainable(now["ActorClassName"]):
            return
        if reason is None:
            heard = (m for m in reversed(self._heard) if str(worker.pid) in m or worker.node in m)
            reason = next(heard, "Ray does not say why")
        named, where = _named(now["ActorClassName"], worker.pid), before["Address"]["IPAddress"]
        again = "; another one takes its place" if is_replaced else ""
        _say(f"{named} on {where} has died ({last_line(reason)}){again}")

    def _kill_what_stands_still(self) -> None:
        here = [actor for actor in self._actors.values() if actor["State"] in ("ALIVE", "PENDING_CREATION")]
        names = {worker_of(actor): actor["ActorClassName"] for actor in here if actor["Pid"]}
        used = _on_each_node(_time_used, {worker_of(a): a["State"] == "ALIVE" for a in here if a["Pid"]})
        # Counted by looks, and not by the clock: while this process was stopped, it has seen nothing.
        self._still_s = {
            worker: self._still_s.get(worker, 0.0) + LOOK_EVERY_S if self._used.get(worker) == time else 0.0
            for worker, time in used.items()
        }
        self._used = used
        hung = {worker: used[worker] for worker, s in self._still_s.items() if s >= self.hang_timeout_s}
        for worker in _on_each_node(_kill_if_still, hung):
            self._killed.add(worker)
            named = _named(names[worker], worker.pid)
            again = "; another one takes its place" if "EnvRunner" in names[worker] else ""
            _say(f"{named} has stood still for {self.hang_timeout_s:g} s and was killed{again}")


def worker_of(actor: Mapping[str, Any]) -> Worker:
    """The process that an actor lives in."""
    return Worker(actor["Address"]["NodeID"], actor["Pid"])


@contextmanager
def watched_processes(hang_timeout_s: float, log: Path) -> Iterator[None]:
    """Follow the processes of this job while the block runs.

    Args:
        hang_timeout_s: See ``ProcessWatch``.
        log: See ``ProcessWatch``.
    """
    watch, is_over = ProcessWatch(hang_timeout_s, log), Event()

    def follow() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            with suppress(Exception):  # what cannot be seen now is looked at again
                watch.look()

    thread = Thread(target=follow, name="process watch", daemon=True)
    thread.start()
    try:
        with messages_of_ray(watch.hear):
            yield
    finally:
        is_over.set()
        thread.join(ANSWER_S)


def note(log: Path, words: str) -> None:
    """Write into a log what is too much for the screen."""
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"{words}\n")


def _time_used(workers: Mapping[int, bool]) -> dict[int, float]:
    """Processor time that processes of this machine have used, in a unit of its own.

    Args:
        workers: By number, whether it has been made. Before that its threads may sleep: it counts where it is stopped.
    """
    found: dict[int, float] = {}
    for pid, is_made in workers.items():
        with suppress(psutil.Error, OSError, ValueError):
            process = psutil.Process(pid)
            if is_made or process.status() == psutil.STATUS_STOPPED:
                of_threads = Path(f"/proc/{pid}/task").glob("*/schedstat")  # to the nanosecond
                found[pid] = sum(int(path.read_text().split()[0]) for path in of_threads) or sum(process.cpu_times())
    return found


def _kill_if_still(workers: Mapping[int, float]) -> dict[int, None]:
    """Kill those processes of this machine that have used no more processor time than given; returns which."""
    killed: dict[int, None] = {}
    for pid, used in _time_used(dict.fromkeys(workers, True)).items():
        if used == workers[pid]:
            with suppress(psutil.Error):
                psutil.Process(pid).kill()
                killed[pid] = None
    return killed


def _on_each_node(
    ask: Callable[[dict[int, Any]], Mapping[int, Any]], workers: Mapping[Worker, Any]
) -> dict[Worker, Any]:
    """Ask every machine that has some of these workers about them; one that does not answer says nothing."""
    here = ray.get_runtime_context().get_node_id()
    found: dict[Worker, Any] = {}
    for node in {worker.node for worker in workers}:
        own = {worker.pid: about for worker, about in workers.items() if worker.node == node}
        answer: Mapping[int, Any] = {}
        if node == here:
            answer = ask(own)
        else:
            pinned = NodeAffinitySchedulingStrategy(node, soft=False)
            asked = ray.remote(ask).options(num_cpus=0, max_retries=0, scheduling_strategy=pinned).remote(own)
            with suppress(ray.exceptions.RayError):
                answer = ray.get(asked, timeout=ANSWER_S)
        found |= {Worker(node, pid): about for pid, about in answer.items()}
    return found


def _named(class_name: str, pid: int) -> str:
    """What a person calls a process of Ray's."""
    kinds = {"EnvRunner": "env runner", PREFIX: "trainer", "_WrappedExecutable": "learner"}  # by Ray's own names
    kind = next((word for part, word in kinds.items() if part in class_name), "process")
    return f"{kind} {pid}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
