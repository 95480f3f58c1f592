"""The commands `ssl-zoo submit` and `ssl-zoo submit evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli.compare import WHAT_IS_COMPARED, asked_for
from ssl_zoo.cli.options import CONFIG, METHOD, OVERRIDES, how_it_is_scored

if TYPE_CHECKING:
    from ssl_zoo.launch.submit import Plan

_LAUNCHER = click.option(
    "--launcher",
    type=click.Choice(["slurm", "local", "debug"]),
    default="slurm",
    show_default=True,
    help="SLURM, this machine in the background (local), or this process (debug).",
)
_SITE = click.option(
    "--slurm",
    "site",
    metavar="NAME|FILE",
    help="Settings of the site, which those of the run override: a profile in "
    "~/.config/ssl-zoo/slurm, or a YAML file. By default the profile 'default', if it exists.",
)
_DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Print the batch script and the settings; submit nothing."
)


class _SubmitGroup(click.Group):
    """A group whose name is also a command: `submit swav`, `submit evaluate RUN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["train", *(args or ["--help"])]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == "train" else name), command, rest  # in usage lines


@click.group("submit", cls=_SubmitGroup, short_help="Submits runs to SLURM.")
def submit_command() -> None:
    """Submits runs to SLURM."""


@submit_command.command("train", short_help="Submits a training run, or a sweep.")
@METHOD
@OVERRIDES
@CONFIG
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="KEY=A,B|KEY=0..9",
    help="Values to run in parallel, as one job array; several --sweep make all combinations.",
)
@click.option(
    "--output",
    "-o",
    metavar="DIR",
    help="Run folder, or the parent folder of a sweep's runs; by default in runs/.",
)
@_SITE
@_LAUNCHER
@_DRY_RUN
def submit_train_command(
    method: str | None,
    overrides: tuple[str, ...],
    file: str | None,
    sweeps: tuple[str, ...],
    output: str | None,
    site: str | None,
    launcher: Any,
    dry_run: bool,
) -> None:
    """Submits a training run, or a sweep of them, to SLURM.

    A run that is preempted or runs out of time saves, is requeued and resumes exactly where it stopped.
    The same command resubmits runs that have stopped or failed; runs that are complete or in the queue
    are skipped. Settings of the job are fields of 'slurm'; see: ssl-zoo schema.

    \b
    ssl-zoo submit swav slurm.partition=gpu slurm.gpus_per_node=8 slurm.timeout_min=240
    ssl-zoo submit swav@imagenet-bs256-200ep --slurm mysite -o runs/swav200
    ssl-zoo submit --sweep method=swav,simclr --sweep seed=0..2 -o runs/first
    ssl-zoo submit swav --dry-run                  only print the batch script
    ssl-zoo submit evaluate runs/swav200 --after runs/swav200

    Then: ssl-zoo jobs, logs, cancel, requeue, release.
    """
    from ssl_zoo.launch import submit as submission
    from ssl_zoo.runs import sweep
    from ssl_zoo.runs.config import run_config
    from ssl_zoo.runs.places import default_folder

    if method is not None and "=" in method:  # `ssl-zoo submit --sweep ... epochs=3`
        overrides, method = (method, *overrides), None
    if sweeps:
        configs = sweep.configs(method, sweeps, file=file, overrides=overrides)
        folders = sweep.sweep_folders(configs, output)
    else:
        configs = [run_config(method, file=file, overrides=overrides)]
        folders = [Path(output) if output else default_folder(configs[0])]
    _carry_out(submission.plan_runs(configs, folders, site=site), launcher, dry_run)


@submit_command.command("evaluate", short_help="Submits a scoring job.")
@click.argument("checkpoint")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@how_it_is_scored
@click.option(
    "--after",
    multiple=True,
    metavar="RUN",
    help="Start only after the job that trains this run has succeeded; can be repeated.",
)
@click.option("--output", "-o", metavar="DIR", help="Folder of the job and its result.")
@_SITE
@_LAUNCHER
@_DRY_RUN
def submit_evaluate_command(
    checkpoint: str,
    overrides: tuple[str, ...],
    after: tuple[str, ...],
    output: str | None,
    site: str | None,
    launcher: Any,
    dry_run: bool,
    file: str | None,
    **fields: Any,
) -> None:
    """Submits a job that scores a checkpoint like 'ssl-zoo evaluate'.

    The result is evaluation.json in the job's folder, which is inside the scored run folder. KEY=VALUE
    sets any field of the request, such as data.root=DIR, and slurm.KEY=VALUE a setting of the job; see:
    ssl-zoo schema scoring.

    \b
    ssl-zoo submit evaluate runs/swav --after runs/swav slurm.partition=gpu
    ssl-zoo submit evaluate runs/swav --precision bf16 --evaluators knn:dino,knn:instdisc
    ssl-zoo submit evaluate untrained:resnet50 --dataset cifar10 data.root=data
    """
    from ssl_zoo.evaluation.config import ScoringConfig, read_request
    from ssl_zoo.evaluation.folder import scoring_folder
    from ssl_zoo.launch import submit as submission

    fields["checkpoint"] = checkpoint
    config = read_request(ScoringConfig, file=file, fields=fields, overrides=overrides)
    folder = Path(output) if output else scoring_folder(config)
    runs = [Path(run) for run in after]
    plan = submission.plan_scoring(config, folder, after=runs, site=site)
    _carry_out(plan, launcher, dry_run)


@submit_command.command("compare", short_help="Submits a comparison of methods.")
@WHAT_IS_COMPARED
@_SITE
@_LAUNCHER
@_DRY_RUN
def submit_compare_command(
    contenders: tuple[str, ...],
    budget: str | None,
    site: str | None,
    launcher: Any,
    dry_run: bool,
    **asked: Any,
) -> None:
    """Submits the runs of a comparison as one array, and a last job that ranks them.

    Works like 'ssl-zoo compare'. Runs that are complete or in the queue are not submitted again. The last job
    starts when all have succeeded; it is in the folder 'ranking' of the comparison. A budget of images,
    FLOPs or epochs holds for each run.

    \b
    ssl-zoo submit compare swav simclr byol --seeds 3 --budget "5M images" slurm.partition=gpu -o runs/first
    ssl-zoo compare runs/first                     once the last job is done
    """
    from ssl_zoo.errors import UserError
    from ssl_zoo.launch.submit_comparison import (
        RANKING,
        plan_ranking,
        plan_training,
        prepare_submission,
    )

    if launcher == "local":
        raise UserError("--launcher local starts one job; use: ssl-zoo compare --jobs N")
    prepared = prepare_submission(asked_for(contenders, budget, **asked))
    training = plan_training(prepared, site=site)
    if training is not None:
        _carry_out(training, launcher, dry_run)
    if dry_run and training is not None:
        click.echo(
            f"---\n# then, when all have succeeded, a job in {_short(prepared.folder / RANKING)}"
        )
        return
    _carry_out(plan_ranking(prepared, site=site), launcher, dry_run)


def _carry_out(plan: "Plan", launcher: Any, dry_run: bool) -> None:
    """Prints what would be done, or does it and prints the folders."""
    from ssl_zoo.launch.submit import execute

    if dry_run:
        _show(plan, launcher)
        return
    numbers = execute(plan, launcher)
    for target in plan.targets:
        click.echo(_short(target.path))
    for path, _ in plan.skipped:
        click.echo(_short(path))
    if numbers:
        where = _short(plan.targets[0].path if len(plan.targets) == 1 else plan.folder.parent)
        jobs = numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        click.echo(f"ssl-zoo: submitted as job {jobs}; see: ssl-zoo jobs {where}", err=True)


def _show(plan: "Plan", launcher: str) -> None:
    for path, reason in plan.skipped:
        click.echo(f"# '{path}' is {reason}; not submitted")
    if not plan.targets:
        return
    for source in plan.sources:
        click.echo(f"# settings of the job: {source}")
    if launcher == "slurm":
        click.echo(plan.script.rstrip("\n"))
    for target in plan.targets:
        click.echo(f"---\n# {target.path}")
        click.echo(target.settings, nl=False)


def _short(path: Path) -> str:
    """Returns a path relative to the current folder if it is inside."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
