"""Commands killed at a chosen instant, whatever it is, and what became of their work."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock

from commands import MARKET, Started, checkpoints, run_command
from comparing import differences, records

from common.files import read_json
from common.manifests import find_damage
from experiments.recovery.names import STATE_FILE

CLOCK = ["--checkpoint-interval", "16", "--evaluation-interval", "16", "--keep", "2", "--checkpoint-interval-s", "0"]
TEAM = ["--qmix.num-envs-per-env-runner", "8", "--qmix.learning-starts", "64"]
ALONE = ["--indq.num-envs-per-env-runner", "8", "--indq.learning-starts", "64"]
DISTRIBUTIONAL = ["--indq.num-quantiles", "4", "--indq.n-step", "3", "--indq.prioritised-replay", "True"]
BATCH = ["--ppo.train-batch-size-per-learner", "256", "--ppo.minibatch-size", "128", "--ppo.num-epochs", "1"]
WEIGHTS = ["--desk.action", "continuous", "--sac.learning-starts", "64"]
CRITICS = ["--maddpg.num-envs-per-env-runner", "8", "--maddpg.learning-starts", "64"]
JOINT = ["--mappo.train-batch-size-per-learner", "256", "--mappo.minibatch-size", "64", "--mappo.num-epochs", "1"]
RUNS = {
    "qmix": ["--algo", "qmix", *TEAM, "--episodes", "96"],
    "qmix-keep-1": ["--algo", "qmix", *TEAM, "--checkpoint-interval", "1", "--keep", "1", "--episodes", "64"],
    "vdn": ["--algo", "vdn", *TEAM, "--episodes", "96"],
    "indq": ["--algo", "indq", *ALONE, *DISTRIBUTIONAL, "--episodes", "96"],
    "ppo": ["--algo", "ppo", *BATCH, "--ppo.num-envs-per-env-runner", "8", "--episodes", "160"],
    "mappo": ["--algo", "mappo", *JOINT, "--mappo.num-envs-per-env-runner", "8", "--episodes", "160"],
    "ippo": ["--algo", "ippo", *JOINT, "--mappo.num-envs-per-env-runner", "8", "--episodes", "160"],
    "maddpg": ["--algo", "maddpg", *CRITICS, "--episodes", "96"],
    "ppo-rllib": ["--algo", "ppo", "--runner", "rllib", *BATCH, "--episodes", "80"],
    "dqn": ["--algo", "dqn", "--dqn.learning-starts", "64", "--episodes", "64"],
    "tqc": ["--algo", "tqc", "--desk.action", "continuous", "--tqc.learning-starts", "64", "--episodes", "64"],
    "impala": ["--algo", "impala", "--impala.train-batch-size-per-learner", "160", "--episodes", "80"],
    "appo": ["--algo", "appo", "--appo.train-batch-size-per-learner", "160", "--episodes", "80"],
    "sac": ["--algo", "sac", *WEIGHTS, "--sac.rollout-fragment-length", "8", "--episodes", "64"],
}
"""Short runs of some five checkpoints each."""
PATIENCE_S = 180

RUNNER = {"ppo-rllib": "ray.rllib.env.multi_agent_env_runner:MultiAgentEnvRunner.sample"}
RUNNER |= dict.fromkeys(("dqn", "sac", "tqc", "impala", "appo"), RUNNER["ppo-rllib"])
TEAM_RUNNER = "algos.runner:TeamEnvRunner.sample"
TRAINABLE = "experiments.tuning.run_trainable:RunTrainable"
CHECKPOINTED = "experiments.tuning.checkpointing:CheckpointedRun"
PHASES = {
    "start-up": [
        "experiments.builders.environments:environment_of:after",
        "experiments.tuning.session:start_ray:after",
        "experiments.tuning.session:write_run_record:after",
        "experiments.tuning.session:train:before",
        f"{TRAINABLE}.__init__:before",
        f"{TRAINABLE}.__init__:after",
    ],
    "sampling": ["{runner}:before", "{runner}:after"],
    "learning": [
        "ray.rllib.core.learner.learner_group:LearnerGroup.update:before",
        "ray.rllib.core.learner.learner_group:LearnerGroup.update:after",
    ],
    "evaluation": [
        "ray.rllib.algorithms.algorithm:Algorithm.evaluate:before",
        "ray.rllib.algorithms.algorithm:Algorithm.evaluate:after",
        f"{TRAINABLE}.step:after",
    ],
    "save": [
        f"{CHECKPOINTED}.save:before",
        "algos.exact:capture:before",
        "experiments.recovery.writer:CheckpointWriter.begin:after",
        "experiments.recovery.writer:_save:before",
        "experiments.recovery.writer:_save:after",
        "common.disk:_write:before",
        "common.disk:_write_past_cache:after",
        "common.disk:write_files:after",
        "common.manifests:to_disk:after",
        "experiments.recovery.checkpoints:seal:after",
    ],
    "between save and state": [
        "experiments.recovery.checkpoints:TrialCheckpoints.publish:after",
        f"{CHECKPOINTED}.save:after",
        f"{CHECKPOINTED}.finish_saving:after",
        "experiments.tuning.monitor:RunMonitor.on_trial_result:before",
        "experiments.tuning.loggers:RecordLogger.log_trial_result:before",
        "experiments.tuning.loggers:RecordLogger.log_trial_result:after",
        "experiments.tuning.monitor:RunMonitor.on_checkpoint:before",
        "experiments.tuning.monitor:RunMonitor.on_step_end:before",
        "experiments.runs.repair:copy_folder:after",
        "experiments.tuning.monitor:write_summary:before",
        "experiments.tuning.monitor:write_summary:after",
    ],
    "retention": [
        "experiments.recovery.checkpoints:TrialCheckpoints.prune:before",
        "experiments.recovery.checkpoints:_delete:before",
        "experiments.recovery.checkpoints:_delete:after",
    ],
    "restore": [
        f"{CHECKPOINTED}._carry_on:before",
        "algos.exact:put_back:before",
        "algos.exact:put_back:after",
        "experiments.tuning.monitor:tidy:before",
        "experiments.tuning.monitor:tidy:after",
        "experiments.runs.repair:truncate_records:before",
    ],
    "any moment": [],
}
"""Where a command can be frozen: ``module:function:before|after``, by phase; at any moment, by the clock."""
OFTEN = {
    "sampling": 40,
    "learning": 40,
    "to_disk": 12,
    "_write": 40,
    "_write_past_cache": 40,
    "write_files": 6,
    "_start": 1,
    "log_trial_result": 40,
    "step": 40,
}
OFTEN |= {"on_trial_result": 40, "on_step_end": 40, "finish_saving": 40}
"""Calls among which one is chosen, of functions that are called more than once or twice in a session."""


@dataclass
class Tally:
    """What became of a case."""

    tried: int = 0
    recovered: int = 0
    exact: int = 0
    lost: int | None = None
    """Most iterations that one accident has cost; None where that is not measured."""
    faults: list[str] = field(default_factory=list)


def freezer_path() -> str:
    """Python's search path with the freezer on it."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parent / "freezer"), os.environ.get("PYTHONPATH")]))


def freeze_at(phase: str, name: str, dice: Random) -> str | None:
    """Choose an instant in a phase of a run; None for one by the clock."""
    if not PHASES[phase]:
        return None
    place = dice.choice(PHASES[phase]).format(runner=RUNNER.get(name, TEAM_RUNNER))
    function = place.split(":")[1].split(".")[-1]
    most = OFTEN.get(phase, OFTEN.get(function, 1 if phase in ("start-up", "restore") else 3))
    return f"{place}:{dice.randint(1, most)}"


def kill_once(folder: Path, words: list[str], at: str | None, dice: Random) -> str:
    """Start the command, and kill all of its processes at an instant.

    Returns:
        ``killed``; or ``ended``, where the command was done before the instant came.

    Raises:
        AssertionError: if the command failed, or hung.
    """
    marker = folder.parent / f"{folder.name}.{time.monotonic_ns()}.frozen"
    env = dict(os.environ, PYTHONPATH=freezer_path())
    if at is not None:
        env |= {"FREEZE_AT": at, "FREEZE_MARKER": str(marker)}
    moment = time.monotonic() + (PATIENCE_S if at is not None else 1 + 14 * dice.random())
    with Started(folder, *words, env=env) as started:
        while started.process.poll() is None and not marker.exists() and time.monotonic() < moment:
            time.sleep(0.01)
        if started.process.poll() is not None:
            assert started.process.returncode == 0, started.out.read_text()
            return "ended"
        assert at is None or marker.exists(), f"hung, or never came to {at}: {started.out.read_text()}"
        started.kill()
    return "killed"


def iterations_lost(folder: Path) -> int:
    """Iterations that were reported and that no checkpoint holds: the same command does them again."""
    newest = checkpoints(folder)[-1:]
    saved = read_json(newest[0] / STATE_FILE)["iteration"] if newest else 0
    lines = records(folder)
    return max(0, int(lines[-1]["/training_iteration"]) - saved) if lines else 0


def interval_in_iterations(reference: Path) -> int:
    """Most iterations between two checkpoints of a run that nothing happened to."""
    due = [i for i, r in enumerate(records(reference)) if r.get("/should_checkpoint") == "True"]
    return max(b - a for a, b in zip([-1, *due], due, strict=False))


def words_of(name: str) -> list[str]:
    """The words of a run's command, but for its folder."""
    return [*MARKET, *CLOCK, *RUNS[name]]


class References:
    """Runs that nothing happened to, each made when it is first asked for, by whichever campaign."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._locks = {name: Lock() for name in RUNS}
        self._found: dict[str, Path] = {}

    def of(self, name: str) -> Path:
        with self._locks[name]:
            if name not in self._found:
                folder = self.folder / f"reference-{name}"
                ended = run_command(folder, *words_of(name))
                assert ended.returncode == 0, ended.stdout + ended.stderr
                self._found[name] = folder
            return self._found[name]


class Campaign:
    """Runs that are killed now and then, each held against one of the same command that never was.

    Args:
        folder: Where its runs go.
        seed: Of the dice.
        references: To share with others; by default its own.
        first: With which of the runs to begin.
    """

    def __init__(self, folder: Path, *, seed: int = 0, references: References | None = None, first: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dice = folder, Random(seed)
        self.references = references or References(folder)
        self.tallies = {phase: Tally() for phase in PHASES}
        self.is_stopped = False
        self._first, self._count = first, 0

    def reference(self, name: str) -> Path:
        """The run that nothing happened to."""
        return self.references.of(name)

    def run(self, name: str, phases: list[str]) -> int:
        """Kill one run once in each phase, then let it end, and compare; returns how often it was killed."""
        reference = self.reference(name)
        self._count += 1
        folder, words, kills = self.folder / f"killed-{self._count}-{name}", words_of(name), []
        allowed = interval_in_iterations(reference)
        try:
            for phase in phases:
                at = freeze_at(phase, name, self.dice)
                if kill_once(folder, words, at, self.dice) == "ended":
                    break
                kills.append((phase, at))
                tally = self.tallies[phase]
                tally.tried += 1
                lost = iterations_lost(folder)
                tally.lost = max(tally.lost or 0, lost)
                if lost > allowed:
                    tally.faults.append(f"{name}, {at}: {lost} iterations lost, {allowed} allowed")
                for path in checkpoints(folder):
                    if damage := find_damage(path):
                        tally.faults.append(f"{name}, {at}: {path.name} is not whole: {damage[0]}")
            ended = run_command(folder, *words)
            fault = (
                None if ended.returncode == 0 else f"exit {ended.returncode}: {(ended.stdout + ended.stderr)[-600:]}"
            )
        except AssertionError as error:
            fault = str(error)[-600:]
            kills = kills or [(phases[0], None)]
        found = differences(folder, reference) if fault is None else {}
        for phase, at in kills:
            tally = self.tallies[phase]
            tally.recovered += fault is None
            tally.exact += fault is None and not found
            if fault or found:
                tally.faults.append(f"{name}, {kills}, at {at}: {fault or found}")
        return len(kills)

    def kill(self, num_kills: int, tell=print) -> None:
        """Kill as often as asked, over all phases and algorithms in turn."""
        done, names = 0, list(RUNS)
        order = [phase for phase in PHASES if phase != "any moment"]
        while done < num_kills and not self.is_stopped:
            name = names[(self._first + self._count) % len(names)]
            wanted = min(num_kills - done, self.dice.randint(2, 6))
            first = self.dice.choice([p for p in order if p != "restore"])  # there is something to restore later
            phases = [first, *self.dice.choices([*order, "any moment"], k=wanted - 1)] if wanted > 1 else [first]
            before = self.faults()
            done += self.run(name, phases)
            for fault in [fault for fault in self.faults() if fault not in before]:
                tell(f"fell short: {fault}")
            tell(f"{done}/{num_kills} kills, {len(self.faults())} faults")

    def faults(self) -> list[str]:
        """All that fell short so far."""
        return [fault for tally in self.tallies.values() for fault in tally.faults]
