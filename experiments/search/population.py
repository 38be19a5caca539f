"""Population-based training (Jaderberg et al. 2017), synchronous, so that a kill at any instant changes nothing.

The members train in turn, as many at a time as may run, up to the same number of episodes, and each waits there with a
checkpoint. When all wait they are compared by the scores in those checkpoints. A member of the worst gets a copy of the
checkpoint of one of the best among its own, and that one's settings, perturbed. What was decided is written before
anything is copied, and what is drawn is counted: repeated after a kill, it comes out the same.

Tune's own scheduler keeps its state in memory, draws from Python's global generator and points a member at another
trial's checkpoint, which may be gone by the time that it is needed again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search.sample import Categorical, Domain, Float, Integer

from common.counted import counted_seed
from common.files import json_text
from common.manifests import MANIFEST_FILE, MARKER_FILE, find_damage
from common.store import first_line
from experiments.recovery.checkpoints import TrialCheckpoints, checkpoint_number, require_meta
from experiments.recovery.copies import copy_into
from experiments.recovery.names import META_FILE, STATE_FILE
from experiments.recovery.progress import read_progress
from experiments.recovery.signals import STOP_FILE
from experiments.remote.mirror import Mirror
from experiments.runs.repair import brought_back
from experiments.search.record import Exploit, SearchRecord, TrialRecord
from experiments.settings.metric_names import SEARCH_SCORE, clock_of
from experiments.settings.run_config import SearchConfig

PERTURBATION_FACTORS = (0.8, 1.2)
_DRAWS = 2
"""Sets the draws of the population apart from others by the same seed."""


class PopulationBasedTraining(FIFOScheduler):
    """Runs the members of a population in turn and lets the worst go on from the best.

    Args:
        record: The search's record.
        space: What may be perturbed, as Tune's domains by dotted name.
        search: When members are compared, how many go on from others, and how many train at the same time.
        seed: The run's seed.
        mirror: Where the search is kept, if not in its folder alone.
    """

    def __init__(
        self,
        record: SearchRecord,
        space: Mapping[str, Domain],
        search: SearchConfig,
        *,
        seed: int,
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__()
        self._record, self._space, self._search = record, dict(space), search
        self._seed, self._mirror = seed, mirror

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the store: whoever restores Tune's own files does not write to it."""
        return {**self.__dict__, "_mirror": None}

    @property
    def boundary(self) -> int:
        """Episodes up to which the members train next."""
        interval = self._search.perturbation_interval
        return (self._record.boundary // interval + 1) * interval

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let a member that has come far enough wait for the others; Tune saves a checkpoint of it first."""
        return str(TrialScheduler.PAUSE if clock_of(result) >= self.boundary else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Compare the members once all of them wait; choose who trains next.

        Raises:
            WriteError: if what was decided cannot be written.
        """
        members = [trial for trial in tune_controller.get_trials() if not trial.is_finished()]
        paused = [trial for trial in members if trial.status == Trial.PAUSED]
        num_active = len(members) - len(paused)
        if (self._record.folder / STOP_FILE).exists():
            if num_active == 0:
                for trial in paused:
                    tune_controller._set_trial_status(trial, Trial.TERMINATED)  # for Tune; the record keeps it open
            return None
        if not paused or num_active >= self._search.max_concurrent:
            return None
        reached = {trial.trial_id: self._reached(trial) for trial in paused}
        if num_active == 0 and min(reached.values()) >= self.boundary:
            self._compare(paused, boundary=max(reached.values()))
        return next((trial for trial in paused if reached[trial.trial_id] < self.boundary), None)

    def _reached(self, trial: Any) -> int:
        """How far a member's newest checkpoint is: up to where a save has failed, it is trained for again.

        One that a signal has kept from being evaluated cannot be compared: its member is started again, which does it.
        """
        published = self._checkpoints(trial.trial_id).published()
        is_known = published and not read_progress(published[-1]).owes_evaluation
        return clock_of(require_meta(published[-1])) if is_known else 0

    def _checkpoints(self, trial_id: str) -> TrialCheckpoints:
        return TrialCheckpoints(self._record.folder / f"trial_{trial_id}")

    def _compare(self, trials: list[Any], *, boundary: int) -> None:
        """Decide who goes on from whom at these episodes, write it, do it."""
        by_id = {trial.trial_id: trial for trial in trials}
        members = [trial for trial in self._record.trials if trial.trial_id in by_id]
        newest = {m.trial_id: self._checkpoints(m.trial_id).published()[-1] for m in members}
        scores = {name: _score(path) for name, path in newest.items()}
        self._record.boundary = boundary
        exploits = self._exploits(members, scores, newest)
        for exploit in exploits:
            member = self._record.find(exploit.trial_id)
            assert member is not None
            member.overrides = dict(exploit.overrides)
        self._record.exploits.extend(exploits)
        self._record.num_pending += len(exploits)  # to those that a silent store has left
        self._record.save()
        apply_exploits(self._record, mirror=self._mirror)
        for exploit in exploits:
            trial = by_id[exploit.trial_id]
            trial.set_config({**trial.config, "overrides": dict(exploit.overrides)})
            trial.evaluated_params = dict(exploit.overrides)
            print(_line(exploit), flush=True)

    def _exploits(
        self, members: list[TrialRecord], scores: Mapping[str, float], newest: Mapping[str, Path]
    ) -> list[Exploit]:
        """Who goes on from whom, and with which settings; the same whenever it is asked."""
        ranked = sorted(members, key=lambda member: scores[member.trial_id])
        count = min(math.ceil(len(ranked) * self._search.quantile_fraction), len(ranked) // 2)
        found, chance = [], self._search.resample_probability
        for member in ranked[:count]:
            number = self._record.number(member.trial_id)
            rng = np.random.default_rng(counted_seed(self._seed, _DRAWS, self._record.boundary, number))
            source = ranked[len(ranked) - count + int(rng.integers(count))]
            found.append(
                Exploit(
                    episodes=self._record.boundary,
                    trial_id=member.trial_id,
                    score=scores[member.trial_id],
                    source=source.trial_id,
                    source_score=scores[source.trial_id],
                    source_checkpoint=newest[source.trial_id].name,
                    checkpoint=self._checkpoints(member.trial_id).next_path().name,
                    overrides=explore(source.overrides, self._space, rng, resample_probability=chance),
                )
            )
        return found


def explore(
    overrides: Mapping[str, Any], space: Mapping[str, Domain], rng: np.random.Generator, *, resample_probability: float
) -> dict[str, Any]:
    """Perturb settings as Tune does, and keep them inside their domains.

    A number is multiplied by one of ``PERTURBATION_FACTORS``, a choice moves to its neighbour; with
    ``resample_probability`` either is drawn anew.

    Args:
        overrides: Settings by dotted name.
        space: Their domains.
        rng: The only source of chance.
        resample_probability: In [0, 1].
    """
    changed = dict(overrides)
    for name, domain in space.items():
        is_resampled = rng.random() < resample_probability
        step = int(rng.integers(2))
        seed = int(rng.integers(2**31))
        if is_resampled:
            value = domain.sample(random_state=np.random.default_rng(seed))
            changed[name] = value.item() if hasattr(value, "item") else value
        elif isinstance(domain, Categorical):
            choices = list(domain.categories)
            at = choices.index(changed[name]) + (1 if step else -1)
            changed[name] = choices[min(max(at, 0), len(choices) - 1)]
        elif isinstance(domain, Float):
            changed[name] = min(max(changed[name] * PERTURBATION_FACTORS[step], domain.lower), domain.upper)
        elif isinstance(domain, Integer):
            changed[name] = min(max(round(changed[name] * PERTURBATION_FACTORS[step]), domain.lower), domain.upper - 1)
    return changed


def apply_exploits(record: SearchRecord, *, mirror: Mirror | None = None) -> None:
    """Make the copies that were decided on, those that are not there yet, and note that they are made.

    Of a search that is kept in a store they are made when they are there too: until then they stay pending there and
    here, and another machine makes them again.

    Args:
        record: The search's record, saved with what was decided.
        mirror: Where the search is kept, if not in its folder alone.

    Raises:
        InputError: if a checkpoint to be copied is only in the store, which does not answer.
        OSError: if one cannot be written here; the next process makes it.
    """
    if not record.num_pending:
        return
    for exploit in record.exploits[-record.num_pending :]:
        target = TrialCheckpoints(record.folder / f"trial_{exploit.trial_id}")
        newest = target.newest_whole(None, may_rename=False)  # what was copied, or what it has trained to since
        if newest is None or checkpoint_number(newest.name) < checkpoint_number(exploit.checkpoint):
            source = record.folder / f"trial_{exploit.source}" / exploit.source_checkpoint
            if (damage := find_damage(source)) and not brought_back(source, print, mirror):
                print(f"{source} is damaged, {damage[0]}: trial {exploit.trial_id} goes on from its own checkpoint")
                continue
            copy_checkpoint(source, target)
    try:
        if mirror is not None:
            mirror.push_all()  # first what was decided: copies that nothing there tells of would be compared
    except OSError as error:  # the next comparison, or the next start, tries again
        print(f"not brought to the store ({first_line(error)}); training goes on", file=sys.stderr, flush=True)
        return
    record.num_pending = 0
    record.save()


def copy_checkpoint(source: Path, target: TrialCheckpoints) -> None:
    """Publish a copy of another trial's checkpoint as the newest of this one.

    The weights, optimisers, counters and replay are the other's. Its place in the records, and the best score, stay
    this trial's own: what the other one reached is not this one's achievement.

    Args:
        source: The other trial's checkpoint.
        target: This trial's checkpoints; there is at least one.
    """
    own = read_progress(target.published()[-1])

    def write(folder: Path) -> None:
        copy_into(folder, source, leave_out=(MANIFEST_FILE, MARKER_FILE))
        state = replace(read_progress(folder), best=own.best, iteration=own.iteration, time_total_s=own.time_total_s)
        (folder / STATE_FILE).write_text(json_text(state.to_json()), encoding="utf-8")
        meta = require_meta(folder)
        meta |= {"is_best": False, "copied_from": f"{source.parent.name}/{source.name}"}
        (folder / META_FILE).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")

    target.publish(write, previous=source)
    target.sync()


def _score(checkpoint: Path) -> float:
    """What a checkpoint was worth; without a number it is worth least."""
    score = read_progress(checkpoint).last_metrics.get(SEARCH_SCORE)
    return -math.inf if score is None or math.isnan(score) else float(score)


def _line(exploit: Exploit) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in asdict(exploit)["overrides"].items())
    return (
        f"[{exploit.trial_id}]  episodes {exploit.episodes}  goes on from {exploit.source} "
        f"({exploit.source_score:+.2f} against {exploit.score:+.2f}) with {shown}"
    )
