"""What Ray 2.60 and Tune keep to themselves and this room uses all the same: each name stands here.

A test says when one goes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from ray._private import services, state, worker
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.node import Node
from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.utils.util import SafeFallbackEncoder

__all__ = ["Node", "SafeFallbackEncoder", "StorageContext", "TuneController", "services"]

HEAD_NODE = "node:__internal_head__"
"""Ray's resource of the machine that the cluster was started on, and commands are given on. It may have no CPUs to give
away; whatever coordinates a run runs there all the same."""
SERVANTS = ("start_api_server", "start_monitor", "start_log_monitor")
"""Methods of a node that start processes which a run on one machine has no use for."""
PRIVATE_NAMES: dict[str, tuple[str, ...]] = {
    "ray._private.node:Node": (*SERVANTS, "kill_all_processes", "_webui_url"),
    "ray._private.authentication.authentication_token_setup:maybe_enable_token_auth_if_token_available": (),
    "ray._private.services:resolve_ip_for_localhost": (),
    "ray._private.state:GlobalState": ("actor_table",),
    "ray._private.worker:init": (),
    "ray._private.worker:print_to_stdstream": (),
    "ray.tune.execution.tune_controller:TuneController": ("save_to_dir", "_set_trial_status"),
    "ray.tune.schedulers.async_hyperband:AsyncHyperBandScheduler": ("_brackets", "_trial_info"),
    "ray.tune.trainable.trainable:Trainable": ("_setup_logdir", "_logdir", "_storage"),
    "ray.tune.experiment.trial:Trial": ("init_local_path", "update_last_result", "set_status"),
}


def local_node() -> Any:
    """The node that ``ray.init`` has started in this process."""
    return ray._private.worker._global_node


def actors_of_this_job() -> dict[str, dict[str, Any]]:
    """What Ray knows of every actor of this process's job, dead ones too, by id."""
    found: dict[str, dict[str, Any]] = state.actors(job_id=ray.JobID.from_hex(ray.get_runtime_context().get_job_id()))
    return found


def unwanted_death(actor: Mapping[str, Any]) -> str | None:
    """What Ray says of the death of an actor; None where it lives, or nobody wanted it to.

    One that has ended because its owner has is told by what became of that.
    """
    cause = actor["DeathCause"]
    if actor["State"] not in ("DEAD", "RESTARTING"):
        return None
    if cause.HasField("oom_context"):
        return str(cause.oom_context.error_message)
    died = cause.actor_died_error_context
    is_unwanted = died.Reason.Name(died.reason) in ("WORKER_DIED", "NODE_DIED") and "INTENDED" not in died.error_message
    return str(died.error_message) if is_unwanted else None


class DeadProcess(NamedTuple):
    """What an error of Ray's tells of a process that has died: the class of its actor, its number and its address."""

    class_name: str
    pid: int
    ip: str


def dead_process(reason: str) -> DeadProcess | None:
    """The process of whose death an error of Ray's tells; None where it tells of none."""
    found = re.search(r"\tclass_name: (\S+).*\tpid: (\d+).*\tip: (\S+)", reason, re.DOTALL)
    return None if found is None else DeadProcess(found[1], int(found[2]), found[3])


def last_line(reason: BaseException | str) -> str:
    """The last line of what a worker process reported: the error itself, below its traceback.

    Of the death of a process Ray writes a long line: without how it is counted, and without advice.
    """
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    last = lines[-1] if lines else type(reason).__name__
    return last.rpartition("Worker exit detail: ")[2].partition(" Some common causes include")[0].rstrip(".")


@contextmanager
def messages_of_ray(hear: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, let what Ray would put on the screen of itself be heard by another."""
    own = worker.print_to_stdstream
    worker.print_to_stdstream = lambda batch, **_: hear("\n".join(batch["lines"]))
    try:
        yield
    finally:
        worker.print_to_stdstream = own


def show_token() -> None:
    """Let this process show the token that it has to the cluster that it joins; Ray does so for some addresses."""
    logging.getLogger(maybe_enable_token_auth_if_token_available.__module__).setLevel(logging.ERROR)  # it says so
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def training_result(checkpoint: Any, metrics: dict[str, Any]) -> Any:
    """What a trainable's ``save`` returns to Tune."""
    return _TrainingResult(checkpoint=checkpoint, metrics=metrics)


def trial_from_spec(spec: dict[str, Any], **settings: Any) -> Any:
    """A trial of an experiment, as Tune's own searchers make it."""
    return _create_trial_from_spec(spec, _make_parser(), **settings)
