"""What a job asks of SLURM: what is refused, what a dump keeps, and how settings are layered."""

import json
from pathlib import Path

import pytest

from ssl_zoo.config import dump_yaml, parse_yaml, validate
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import OPERATIONAL, run_config
from ssl_zoo.runs.slurm import SlurmConfig, profile_folder, resolve


def settings(**fields: object) -> SlurmConfig:
    return validate(SlurmConfig, fields)


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder of the profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "ssl-zoo" / "slurm"
    folder.mkdir(parents=True)
    assert profile_folder() == folder
    return folder


def test_a_dump_holds_what_was_set_and_nothing_else() -> None:
    config = settings(partition="gpu", nodes=1, qos=None)
    assert config.model_dump() == {"partition": "gpu", "nodes": 1, "qos": None}
    again = validate(SlurmConfig, json.loads(config.model_dump_json()))
    assert again.model_fields_set == {"partition", "nodes", "qos"}


def test_a_run_holds_them_also_after_overrides() -> None:
    config = run_config("swav", overrides=["slurm.partition=gpu", "slurm.mem_gb=8"])
    again = run_config(
        settings=parse_yaml(dump_yaml(config), source="text"), overrides=["slurm.nodes=2"]
    )
    assert config.slurm.model_dump() == {"partition": "gpu", "mem_gb": 8.0}
    assert again.slurm.model_dump() == {"partition": "gpu", "nodes": 2, "mem_gb": 8.0}


def test_overrides_reach_the_options_of_sbatch() -> None:
    config = run_config(
        "swav",
        overrides=[
            "slurm.additional_parameters.mail_user=me",
            "slurm.additional_parameters.exclusive=true",
            "slurm.additional_parameters.nice=7",
        ],
    )
    assert config.slurm.options == {"mail-user": "me", "exclusive": True, "nice": 7}


def test_where_a_run_runs_changes_neither_its_digest_nor_its_folder() -> None:
    plain, other = run_config("swav"), run_config("swav", overrides=["slurm.partition=gpu"])
    assert "slurm" in OPERATIONAL
    assert other.digest() == plain.digest()


@pytest.mark.parametrize(
    ("fields", "processes"),
    [
        ({}, (1, 1)),
        ({"gpus_per_node": 8}, (8, 8)),
        ({"gpus_per_node": 4, "nodes": 2}, (4, 8)),
        ({"tasks_per_node": 3, "nodes": 2}, (3, 6)),
        ({"gpus_per_node": 2, "tasks_per_node": 2}, (2, 2)),
    ],
)
def test_there_is_a_process_for_each_gpu_or_one(
    fields: dict[str, int], processes: tuple[int, int]
) -> None:
    config = settings(**fields)
    assert (config.processes_per_node, config.processes) == processes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"partition": "a b"}, "partition: 'a b' must be one word without spaces"),
        ({"partition": ""}, "partition: '' must be one word without spaces"),
        ({"comment": "a\nb"}, r"comment: 'a\nb' must be one line of printable text"),
        ({"account": 1234}, "account: 1234 should be a valid string; put it in quotes: "),
        ({"nodes": 0}, "nodes: 0 should be greater than or equal to 1"),
        ({"signal_delay_s": 0}, "signal_delay_s: 0 should be greater than or equal to 1"),
        (
            {"timeout_min": 2},
            "signal_delay_s of 120 s does not fit in timeout_min=2 (the signal may come 30 s "
            "early); set timeout_min=3 or more, or a shorter delay",
        ),
        (
            {"gpus_per_node": 4, "tasks_per_node": 2},
            "tasks_per_node of 2 does not fit gpus_per_node=4: there is one process per GPU; "
            "leave out tasks_per_node",
        ),
        (
            {"nodelist": "node[08-10],gpu1", "exclude": "node7,node[09-11]x,node09"},
            "nodelist and exclude both name node09",
        ),
        (
            {"mem_gb": 8, "additional_parameters": {"mem_per_gpu": "8G"}},
            "mem_gb and mem-per-gpu both set the memory; use one of them",
        ),
        ({"partion": "x"}, "unknown key 'partion'. Did you mean 'partition'? Known: account, "),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError) as error:
        settings(**fields)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_fits_exactly_is_accepted() -> None:
    settings(timeout_min=3, signal_delay_s=149)
    with pytest.raises(UserError, match="set timeout_min=4 or more"):
        settings(timeout_min=3, signal_delay_s=150)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("time", "'time' has a field of its own; set timeout_min instead"),
        (
            "ntasks_per_node",
            "'ntasks_per_node' has a field of its own; set tasks_per_node instead",
        ),
        ("gpus-per-node", "'gpus-per-node' has a field of its own; set gpus_per_node instead"),
        ("--qos", "'--qos' has a field of its own; set qos instead"),
        ("job_name", "'job_name' cannot be set: a job is named after its run folder"),
        ("open-mode", "'open-mode' cannot be set: a requeued job appends to its logs"),
        ("parsable", "'parsable' cannot be set: the job ID is read from the output of sbatch"),
        ("p", "'p' is not a long option of sbatch; write it like 'mail-user'"),
    ],
)
def test_an_option_that_is_ours_names_the_field_or_the_reason(option: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        settings(additional_parameters={option: "1"})
    assert str(error.value) == f"additional_parameters: {message}"


def test_an_option_of_another_type_is_one_line() -> None:
    with pytest.raises(UserError) as error:
        settings(additional_parameters=parse_yaml("begin: [2030-01-01]", source="text"))
    assert str(error.value) == (
        "additional_parameters: 'begin' holds ['2030-01-01']; "
        "an option is text in quotes, a number, true or false"
    )


def test_a_batch_that_does_not_split_names_one_that_does() -> None:
    config = settings(nodes=2, gpus_per_node=3)
    config.check_batch(96)
    config.check_batch(96, 4)
    with pytest.raises(UserError) as error:
        config.check_batch(100, 2)
    assert str(error.value) == (
        "global_batch_size of 100 cannot be split over 2 nodes x 3 processes x accumulate=2; "
        "use a multiple of 12, such as 96"
    )
    with pytest.raises(UserError, match="use a multiple of 6, such as 6"):
        config.check_batch(2)


def test_without_a_site_the_settings_apply_alone(profiles: Path) -> None:
    run = settings(partition="gpu")
    assert resolve(run) == (run, ["the run's settings"])
    assert resolve(settings()) == (settings(), [])


def test_the_run_comes_on_top_of_the_profile(profiles: Path) -> None:
    file = profiles / "cluster.yaml"
    file.write_text(
        "partition: gpu\naccount: lab\nsetup: [module load cuda]\n"
        "additional_parameters: {mail_user: me, exclusive: true, nice: 5}\n"
    )
    run = settings(
        partition="debug",
        account=None,
        setup=["true"],
        additional_parameters={"exclusive": False, "nice": 7},
    )
    config, layers = resolve(run, "cluster")
    assert layers == [str(file), "the run's settings"]
    assert config.model_dump() == {
        "partition": "debug",
        "account": None,
        "setup": ["true"],
        "additional_parameters": {"mail-user": "me", "exclusive": False, "nice": 7},
    }
    assert config.options == {"mail-user": "me", "nice": 7}


def test_the_profile_called_default_is_taken_unless_another_is_named(profiles: Path) -> None:
    (profiles / "default.yaml").write_text("partition: usual\n")
    (profiles / "other.yaml").write_text("qos: fast\n")
    assert resolve(settings())[0].model_dump() == {"partition": "usual"}
    assert resolve(settings(), "other")[0].model_dump() == {"qos": "fast"}


def test_a_path_is_a_profile_too(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (profiles / "mine.yml").write_text("partition: here\n")
    monkeypatch.chdir(profiles)
    for path in ("mine.yml", "./mine.yml", str(profiles / "mine.yml")):
        assert resolve(settings(), path)[0].partition == "here"


def test_an_unknown_profile_lists_the_known_ones(profiles: Path) -> None:
    (profiles / "cluster.yaml").write_text("")
    with pytest.raises(UserError) as error:
        resolve(settings(), "clustr")
    assert str(error.value) == (
        f"unknown SLURM profile 'clustr'. Did you mean 'cluster'? Known in {profiles}: cluster"
    )


def test_a_mistake_in_a_profile_names_its_file(profiles: Path) -> None:
    file = profiles / "default.yaml"
    file.write_text("partion: gpu\n")
    with pytest.raises(UserError) as error:
        resolve(settings())
    assert str(error.value).startswith(f"{file}: unknown key 'partion'. Did you mean 'partition'?")


def test_layers_that_do_not_fit_together_name_the_file(profiles: Path) -> None:
    file = profiles / "default.yaml"
    file.write_text("tasks_per_node: 8\n")
    with pytest.raises(UserError) as error:
        resolve(settings(gpus_per_node=4))
    assert str(error.value).startswith(f"slurm settings with '{file}': tasks_per_node of 8")
