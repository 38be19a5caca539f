"""``make faults``: everything that can happen to a run, tried; a table of what became of it; 1 if anything fell short.

``python tests/faults/harness.py --kills 200 --jobs 2 --seed 7``; Ctrl-C shows what has been tried so far.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import accidents
from killing import RUNS, Campaign, References, Tally
from store_accidents import SILENCES, STORE_ACCIDENTS, Run
from stores import Endpoint, endpoint

from common.files import write_json
from experiments.reporting.tables import rows_table, show

RESULT = Path(__file__).parents[2] / "build" / "faults.json"
START = time.monotonic()


def tell(text: str) -> None:
    """One line of progress, with the minutes that have passed."""
    print(f"{(time.monotonic() - START) / 60:5.1f} min  {text}", flush=True)


def try_once(name: str, act: Callable[[], str]) -> tuple[str, Tally]:
    """Let one accident happen."""
    try:
        fault = act()
    except Exception as error:  # a harness reports what it could not do, and goes on
        fault = f"{type(error).__name__}: {error}"
    tell(f"{name}: {fault or 'ok'}")
    is_recovered = not fault or fault.startswith(("not exact", "{"))
    return name, Tally(tried=1, recovered=int(is_recovered), exact=int(not fault), faults=[fault] if fault else [])


def other_accidents(place: Path, reference: Path, interrupted: Path) -> dict[str, Callable[[], str]]:
    """All accidents but kills, by name."""
    cases: dict[str, Callable[[], str]] = {
        f"damage: {kind}": lambda kind=kind, i=i: accidents.carry_on_after(
            kind, interrupted, place / f"damage-{i}", reference
        )
        for i, kind in enumerate(accidents.DAMAGE)
    }
    cases |= {
        "SIGINT": lambda: accidents.interrupted_by(signal.SIGINT, place / "int", reference),
        "SIGTERM": lambda: accidents.interrupted_by(signal.SIGTERM, place / "term", reference),
        "SIGTERM to all of its processes": lambda: accidents.interrupted_by(
            signal.SIGTERM, place / "everyone", reference, everyone=True
        ),
        "SIGKILL, then plain Tune": lambda: accidents.carried_on_by_tune(place / "plain", reference),
        "SIGKILL to the command alone": lambda: accidents.killed_by_itself(place / "alone", reference),
        "SIGINT twice": lambda: accidents.stopped_at_once(place / "twice", reference),
        "SIGINT, no checkpoint wanted": lambda: accidents.stopped_without_a_checkpoint(place / "unsaved", reference),
        "two writers": lambda: accidents.written_by_two(place / "two", reference),
    }
    workers = {
        "env runners": ("TeamEnvRunner", accidents.SCALED),
        "learner": ("_WrappedExecutable", accidents.LEARNER),
        "trainer": ("Floor", []),
    }
    for i, (kind, (title, words)) in enumerate(workers.items()):
        lost = partial(accidents.with_lost_workers, title=title, words=words)
        cases |= {
            f"dead {kind}": partial(lost, place / f"dead-{i}"),
            f"hung {kind}": partial(lost, place / f"hung-{i}", are_stopped=True),
        }
    cases["one of two env runners dead"] = partial(
        accidents.with_lost_workers, place / "dead-one", "TeamEnvRunner", accidents.SCALED, count=1
    )
    cases["SIGINT while env runners hang"] = lambda: accidents.interrupted_while_hung(
        place / "hung-int", "TeamEnvRunner", accidents.SCALED
    )
    cases["SIGINT while the trainer hangs"] = lambda: accidents.interrupted_while_hung(
        place / "hung-trainer-int", "Floor", [], reference
    )
    if accidents.can_mount():
        cases |= {
            "full disk": lambda: accidents.on_a_full_disk(place / "full", reference),
            "disk that stays full": lambda: accidents.on_a_disk_that_stays_full(place / "stays_full", reference),
            "full disk that holds all": lambda: accidents.on_a_full_disk(place / "all", reference, holds_all=True),
            "read-only folder": lambda: accidents.on_a_read_only_folder(place / "read-only", reference),
        }
    else:
        tell("full disk, read-only folder: left out, for only root can mount a small disk")
    return cases


def in_store(
    store: Endpoint, folder: Path, act: Callable[[Run, Path], str], references: References
) -> Callable[[], str]:
    """An accident of a run that is kept in a store, under the name of the folder."""
    return lambda: act(Run(store, folder.parent, folder.name), references.of("qmix"))


def main(argv: list[str] | None = None) -> int:
    """Try everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="random kills over all phases and algorithms")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=0, help="of the dice")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as name,
        ThreadPoolExecutor(1) as aside,
        endpoint() as store,
        endpoint() as silent_store,  # gone before anybody waits for a run that waits for it
    ):
        place = Path(name)
        references = References(place / "references")
        silences = [
            aside.submit(try_once, f"store: {kind}", in_store(silent_store, place / f"silent-{i}", act, references))
            for i, (kind, act) in enumerate(STORE_ACCIDENTS.items())
            if kind in SILENCES
        ]
        campaigns = [
            Campaign(
                place / f"job-{i}",
                seed=options.seed + 1000 * i,
                references=references,
                first=i * len(RUNS) // options.jobs,
            )
            for i in range(options.jobs)
        ]
        shares = [len(range(i, options.kills, options.jobs)) for i in range(options.jobs)]
        tell(f"{options.kills} kills in {options.jobs} jobs")
        with ThreadPoolExecutor(options.jobs) as pool:
            jobs = [pool.submit(c.kill, n, tell) for c, n in zip(campaigns, shares, strict=True) if n]
            try:
                for job in jobs:
                    job.result()
            except KeyboardInterrupt:
                tell("stopping when the runs under way have ended")
                for campaign in campaigns:
                    campaign.is_stopped = True
        if campaigns[0].is_stopped:
            aside.shutdown(wait=False, cancel_futures=True)
            report(of_phases(campaigns))
            return 130
        reference = campaigns[0].reference("qmix")
        interrupted = accidents.interrupted_run(place / "interrupted")
        cases = other_accidents(place, reference, interrupted)
        cases |= {
            f"store: {kind}": in_store(store, place / f"store-{i}", act, references)
            for i, (kind, act) in enumerate(STORE_ACCIDENTS.items())
            if kind not in SILENCES
        }
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda item: try_once(*item), cases.items()))
        found += [silence.result() for silence in silences]
    return report(of_phases(campaigns) | dict(found))


def of_phases(campaigns: list[Campaign]) -> dict[str, Tally]:
    """What became of the kills in each phase."""
    tallies = {f"kill: {phase}": sum_up([c.tallies[phase] for c in campaigns]) for phase in campaigns[0].tallies}
    return {name: tally for name, tally in tallies.items() if tally.tried}


def sum_up(tallies: list[Tally]) -> Tally:
    """Several jobs' tallies of one phase."""
    return Tally(
        tried=sum(t.tried for t in tallies),
        recovered=sum(t.recovered for t in tallies),
        exact=sum(t.exact for t in tallies),
        lost=max((t.lost for t in tallies if t.lost is not None), default=None),
        faults=[fault for t in tallies for fault in t.faults],
    )


def report(tallies: dict[str, Tally]) -> int:
    """Print the table and write it as JSON; 1 if anything fell short."""
    rows = [
        {"case": n, "tried": t.tried, "recovered": t.recovered, "exact": t.exact, "iterations lost": t.lost}
        for n, t in tallies.items()
    ]
    everything = sum_up(list(tallies.values()))
    rows.append(
        {
            "case": "all",
            "tried": everything.tried,
            "recovered": everything.recovered,
            "exact": everything.exact,
            "iterations lost": everything.lost,
        }
    )
    show(rows_table(rows, title="Accidents"))
    for fault in everything.faults:
        print(f"fell short: {fault}")
    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, {"rows": rows, "faults": everything.faults})
    print(f"{'all recovered' if not everything.faults else 'some fell short'}; {json.dumps(str(RESULT))}")
    return 1 if everything.faults else 0


if __name__ == "__main__":
    sys.exit(main())
