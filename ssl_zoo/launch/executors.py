"""submitit's executors, with fixes for lost jobs and a dropped Python command."""

import os
import shlex
import subprocess
import uuid
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission
from submitit.local.local import LocalJob


class ArrayExecutor(submitit.SlurmExecutor):
    """Submits one job, or several as one array.

    Args:
        folder: submitit's folder, for logs and pickles.
        command: shell command of a task.
        timeout_min: time limit of a job, in minutes.
        max_num_timeout: maximum number of restarts of a job.
    """

    def __init__(
        self, folder: Path, *, command: str, timeout_min: int, max_num_timeout: int
    ) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout)
        self._command, self._timeout_min = command, timeout_min

    @classmethod
    def affinity(cls) -> int:
        """Returns that the executor is usable: submitit refuses to write a script without srun."""
        return 2

    @property
    def _submitit_command_str(self) -> str:
        # A signal that arrives while Python imports must not kill it: an ignored one stays ignored
        # until the job sets its handlers.
        shell = """sh -c 'trap "" USR2; exec "$@"' sh"""
        return f"{shell} {self._command}"

    def _internal_process_submissions(
        self, delayed_submissions: list[DelayedSubmission]
    ) -> list[submitit.Job[Any]]:
        if len(delayed_submissions) == 1:
            found: list[submitit.Job[Any]] = super()._internal_process_submissions(
                delayed_submissions
            )
            return found
        pickles = [self.folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
            delayed.set_timeout(self._timeout_min, self.max_num_timeout)
            delayed.dump(pickle)
        # submitit's own submits arrays with an executor that drops the python command
        array = self._submit_command(self._submitit_command_str)
        ids = [f"{array.job_id}_{index}" for index in range(len(pickles))]
        tasks = list(range(array.num_tasks))
        jobs: list[submitit.Job[Any]] = [
            self.job_class(folder=self.folder, job_id=each, tasks=tasks) for each in ids
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs


class DetachedExecutor(submitit.LocalExecutor):
    """Starts a job on this machine in processes that outlive this one.

    Args:
        folder: submitit's folder, for logs and pickles.
        command: shell command of a task.
        script: shell lines that start the controller of the tasks.
        environment: environment variables for the controller and its tasks, besides the command.
        tasks: number of processes of the job.
        max_num_timeout: maximum number of restarts of the job.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: str,
        script: str,
        environment: dict[str, str],
        tasks: int,
        max_num_timeout: int,
    ) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout)
        self._command, self._script = command, script
        self._environment, self._tasks = environment, tasks

    @property
    def _submitit_command_str(self) -> str:
        line = f"""trap "" USR2; exec {self._command}"""
        return shlex.join(["bash", "-c", line])  # the controller starts tasks without a shell

    def _submit_command(self, command: str) -> LocalJob[Any]:
        process = subprocess.Popen(
            ["bash", "-c", self._script],
            env={**os.environ, **self._environment, "SUBMITIT_LOCAL_COMMAND": command},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # survives closing the terminal
        )
        tasks = list(range(self._tasks))
        pid = str(process.pid)
        return LocalJob(folder=self.folder, job_id=pid, tasks=tasks, process=process)
