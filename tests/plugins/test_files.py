"""Plug-in files: loaded where a user names them, part of a run's identity, kept in its folder."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_zoo import plugins
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.folder import ScoringFolder
from ssl_zoo.launch.submit import plan_runs
from ssl_zoo.method import METHODS
from ssl_zoo.runs import plugin_files
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import export, load, open_checkpoint
from tests import subprocesses
from tests.plugins.method_file import write_method, write_run


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves no component or module behind, as in a fresh process."""
    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    monkeypatch.setattr(plugins, "FILES", {})
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("plugin_"):
            del sys.modules[name]


def forget() -> None:
    """Makes this process one that has loaded no plug-in file."""
    plugins.FILES.clear()
    for name in [name for name in METHODS._classes if name.startswith("one")]:
        del METHODS._classes[name]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A finished run of a method from a file, whose file is gone, in a process that never saw it."""
    folder = train(run_config(file=write_run(tmp_path / "there", "one")), tmp_path / "run")
    shutil.rmtree(tmp_path / "there")
    forget()
    return folder


def test_a_file_registers_its_components_once(tmp_path: Path) -> None:
    file = plugins.load_file(write_method(tmp_path / "one.py", "one"))
    assert METHODS["one"] in file.classes
    assert plugins.load_file(shutil.copy(tmp_path / "one.py", tmp_path / "copy.py")) is file


def test_an_edited_file_takes_the_place_of_what_it_registered(tmp_path: Path) -> None:
    path = write_method(tmp_path / "one.py", "one")
    before = plugins.load_file(path)
    path.write_text(path.read_text().replace("1.0", "2.0"))
    after = plugins.load_file(path)
    assert METHODS.config("one").model_dump()["weight"] == 2.0
    assert plugins.loaded(before.digest) is None
    assert plugins.loaded(after.digest) is after


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "'bad.py' registers nothing"),
        ("x = 1\ny = (\n", r"'bad.py' cannot be loaded \(line 2\): SyntaxError: '\(' was never"),
        ("def f():\n    import gone_module\nf()\n", r"\(line 2\): ModuleNotFoundError: No module"),
        ("import sys\nsys.exit(3)\n", r"'bad.py' cannot be loaded \(line 2\): SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        plugins.load_file("bad.py")
    assert "\n" not in str(caught.value)
    assert caught.value.on_all_ranks
    assert plugins.FILES == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="plug-in file 'gone.py' does not exist"):
        plugins.load_file("gone.py")
    with pytest.raises(UserError, match="is not a Python file; give FILE.py"):
        plugins.load_file(tmp_path)


def test_a_name_that_is_taken_is_refused_with_both_owners(tmp_path: Path) -> None:
    other = METHODS.names()[0]
    with pytest.raises(UserError, match=f"method '{other}' of plugin_two_.*already registered by"):
        plugins.load_file(write_method(tmp_path / "two.py", other))


def test_paths_in_a_file_of_settings_begin_at_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "there", "one")
    (file,) = run_config(file="there/run.yaml").plugins
    assert Path(file.file) == tmp_path / "there" / "one.py"
    assert file.digest == plugins.source_digest((tmp_path / "there" / "one.py").read_bytes())


def test_the_resolved_settings_read_back(tmp_path: Path) -> None:
    config = run_config(file=write_run(tmp_path, "one"))
    forget()
    settings = config.model_dump(mode="json")
    assert run_config(settings=settings).model_dump(mode="json") == settings


def test_a_file_named_in_an_override_is_loaded(tmp_path: Path) -> None:
    path = write_method(tmp_path / "one.py", "one")
    config = run_config("simclr", overrides=[f"plugins=['{path}']", "method=one"])
    assert config.method.name == "one"


def test_a_file_that_was_loaded_by_name_belongs_to_the_runs_that_need_it(tmp_path: Path) -> None:
    plugins.load_file(write_method(tmp_path / "one.py", "one"))
    assert run_config(settings={"method": "random_init"}).plugins == []
    (file,) = run_config(settings={"method": "one"}).plugins
    assert Path(file.file).name == "one.py"


def test_the_identity_of_a_run_is_the_content_of_its_files(tmp_path: Path) -> None:
    config = run_config(file=write_run(tmp_path / "here", "one"))
    moved = run_config(file=write_run(tmp_path / "there", "one"))
    assert moved.digest() == config.digest()
    forget()
    path = tmp_path / "there" / "one.py"
    path.write_text(path.read_text() + "# edited\n")
    assert run_config(file=tmp_path / "there" / "run.yaml").digest() != config.digest()


def test_runs_without_files_keep_their_identity() -> None:
    assert "plugins" not in run_config("random_init").identity()


def test_a_run_resumes_from_its_own_copy(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (trained / "complete.json").unlink()
    config = RunFolder("../run").resume_config()
    train(config, "../run")
    assert RunFolder(trained).is_complete


def test_a_copy_that_was_changed_is_refused(trained: Path) -> None:
    (copy,) = (trained / "plugins").iterdir()
    copy.write_text(copy.read_text() + "# edited\n")
    with pytest.raises(UserError, match="has changed: its digest is .*, and the settings have"):
        RunFolder(trained).resume_config()
    assert plugins.FILES == {}


def test_an_edited_file_does_not_train_on_in_the_same_folder(
    trained: Path, tmp_path: Path
) -> None:
    settings = write_run(tmp_path / "there", "one")
    (tmp_path / "there" / "one.py").write_text(
        (tmp_path / "there" / "one.py").read_text() + "# edited\n"
    )
    with pytest.raises(UserError, match=r"made by another config \(plugins: "):
        RunFolder(trained).check(run_config(file=settings))
    forget()
    with pytest.raises(UserError, match=r"made by another config \(method.name: one there"):
        RunFolder(trained).check(run_config("random_init"))


def test_opening_a_checkpoint_runs_no_file(trained: Path, tmp_path: Path) -> None:
    (copy,) = (trained / "plugins").iterdir()
    assert load(trained).feature_dim == 16  # the backbone is ours
    opened = open_checkpoint(trained)
    evaluate(trained, evaluators=["knn"])
    with pytest.raises(UserError, match=f"needs method 'one'.*add: --plugin {copy}"):
        opened.layers()
    with pytest.raises(UserError, match=f"needs method 'one'.*add: --plugin {copy}"):
        RunFolder(trained).config()
    assert plugins.FILES == {}
    plugins.load_file(copy)
    assert opened.layers() == {}
    assert RunFolder(trained).config().method.name == "one"


@pytest.mark.parametrize("part", ["backbone", "data"])
def test_a_backbone_or_data_of_a_file_is_asked_for(part: str, trained: Path) -> None:
    for manifest in trained.glob("checkpoints/*/manifest.json"):
        settings = json.loads(manifest.read_text())
        settings["config"][part] = {"name": "theirs"}
        settings["backbone"] = settings["config"]["backbone"]
        manifest.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=f"needs {part} 'theirs' from a plug-in file"):
        evaluate(trained, evaluators=["knn"])


def test_an_exported_file_names_the_plug_in_file_it_needs(trained: Path, tmp_path: Path) -> None:
    opened = open_checkpoint(trained)
    facts = opened.facts.model_copy(update={"backbone": {"name": "theirs"}})
    plugins.load_file(next((trained / "plugins").iterdir()))
    export(replace(opened, facts=facts), tmp_path / "weights.safetensors")
    forget()
    with pytest.raises(UserError, match=r"needs backbone 'theirs' .*--plugin one\.py"):
        load(tmp_path / "weights.safetensors")


def test_a_queued_job_gets_the_file_as_it_was_submitted(tmp_path: Path) -> None:
    settings = write_run(tmp_path / "there", "one")
    plan = plan_runs([run_config(file=settings)], [tmp_path / "run"], site="")
    plan.targets[0].write()
    path = tmp_path / "there" / "one.py"
    submitted = path.read_bytes()
    path.write_text("raise RuntimeError\n")
    forget()
    RunFolder(tmp_path / "run").resume_config()
    assert [file.source for file in plugins.FILES.values()] == [submitted]


def test_a_scoring_job_keeps_the_files_that_are_loaded(tmp_path: Path) -> None:
    from ssl_zoo.evaluation.config import ScoringConfig

    plugins.load_file(write_method(tmp_path / "one.py", "one"))
    ScoringFolder(tmp_path / "job").create(ScoringConfig(checkpoint="untrained:pixels"))
    forget()
    plugin_files.load_kept(tmp_path / "job")
    assert "one" in METHODS


@pytest.mark.slow
def test_a_file_is_named_before_or_after_the_command(tmp_path: Path) -> None:
    write_method(tmp_path / "one.py", "one")
    for words in (["--plugin", "one.py", "show", "method", "one"], None):
        done = subprocesses.ssl_zoo(
            *(words or ["show", "method", "one", "--plugin", "one.py"]), cwd=tmp_path
        )
        assert "Pulls two views" in done.stdout
    subprocesses.ssl_zoo("submit", "one", "--plugin", "one.py", "--dry-run", cwd=tmp_path)
    done = subprocesses.ssl_zoo("show", "method", "one", cwd=tmp_path, check=False)
    assert "unknown method 'one'" in done.stderr


@pytest.mark.slow
def test_a_job_trains_a_method_of_a_file(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    words = ("submit", "--config", "run.yaml", "--launcher", "debug", "-o", "run")
    subprocesses.ssl_zoo(*words, cwd=tmp_path)
    assert RunFolder(tmp_path / "run").is_complete


@pytest.mark.parametrize("recipe", ["digits", "cifar10-200ep", "imagenet-100ep"])
def test_a_method_without_recipes_takes_the_generic_ones(
    recipe: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plugins.load_file(write_method(tmp_path / "one.py", "one"))
    assert run_config(f"one@{recipe}").method.name == "one"
    (line,) = [line for line in caplog.messages if "generic" in line]
    assert f"'{recipe}'" in line
    assert "'one'" in line
    with pytest.raises(UserError, match="method 'one' has no recipe 'digit'.*Known: cifar10"):
        run_config("one@digit")
