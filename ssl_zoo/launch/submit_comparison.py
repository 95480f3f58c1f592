"""Submits a comparison: its runs as one array, and a last job that scores and ranks them."""

import json
from pathlib import Path

from ssl_zoo.comparison.compare import Prepared, prepare_comparison
from ssl_zoo.comparison.request import ComparisonRequest, RankingFolder
from ssl_zoo.errors import UserError
from ssl_zoo.launch.entry import CompareJob
from ssl_zoo.launch.submit import Plan, Target, plan_runs, plan_targets, waiting_for
from ssl_zoo.planning.budget import read_budget
from ssl_zoo.runs.slurm import resolve

RANKING = "ranking"
"""Name of the folder of the last job in that of the comparison."""


def prepare_submission(request: ComparisonRequest) -> Prepared:
    """Checks a comparison here, where a budget of time would be measured on the wrong machine.

    Raises:
        UserError: a setting is wrong, or the budget is one of time.
    """
    if request.budget is not None and read_budget(request.budget).unit == "seconds":
        raise UserError(
            f"--budget {request.budget} would be timed on this machine, not on the nodes; give images, FLOPs "
            "or epochs, or set the time of a job with slurm.timeout_min"
        )
    # Relative paths of the last job refer to the directory of the submission, as those of runs do.
    return prepare_comparison(
        request.model_copy(update={"output": str(Path(request.output).absolute())})
    )


def plan_training(prepared: Prepared, *, site: str | None = None) -> Plan | None:
    """Plans the array of the runs that are not trained yet; None if all are.

    Raises:
        UserError: as for `plan_runs`.
    """
    untrained = prepared.untrained()
    if not untrained:
        return None
    configs, runs = zip(*untrained, strict=True)
    return plan_runs(configs, [run.path for run in runs], site=site)


def plan_ranking(prepared: Prepared, *, site: str | None = None) -> Plan:
    """Plans the last job: one process that starts when all runs are trained.

    Raises:
        UserError: a run is neither complete nor in the queue.
    """
    slurm, sources = resolve(prepared.compared[0].configs[0].slurm, site)
    one = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": min(1, slurm.gpus_per_node)}
    slurm = slurm.model_validate({**slurm.model_dump(), **one})
    slurm = waiting_for(slurm, [run.path for _, run in prepared.untrained()])
    ranking = RankingFolder(prepared.folder.absolute() / RANKING)
    target = Target(
        path=ranking.path,
        job=CompareJob(str(ranking.path)),
        settings=json.dumps(prepared.request.model_dump(mode="json"), indent=1) + "\n",
        write=lambda: ranking.create(prepared.request),
        is_complete=False,
    )
    return plan_targets([target], slurm, sources)
