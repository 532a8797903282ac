"""Full disks, folders that can't be written to, several users."""

import dataclasses
import errno
import multiprocessing
import os
import pathlib
import stat
import sys
import threading

import pytest
import torch
from filelock import FileLock

from cifake_utils import CifakeError, __main__, data, experiments, features, profiles
from cifake_utils.support import files, verified
from tests.test_damage import PROFILE, result, same, small  # noqa: F401 (a fixture)

POSIX = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no umask, no user ids and no limits of this kind"
)


def permissions(path):
    return stat.S_IMODE(path.stat().st_mode)


@POSIX
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_get_the_permissions_that_the_umask_grants(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        verified.save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})
        verified.save_json(tmp_path / "a.json", {"x": 1})
        with files.locked(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)
    assert {permissions(tmp_path / name) for name in ("a.safetensors", "a.json")} == {expected}
    assert permissions(tmp_path / "lock") == 0o666  # others of the group take it too


def limit_file_size(size):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def full_disk():
    """No file can become larger than 50 kB, which the system says much as it says that a disk is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

    yield fill, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_in_the_place_of_a_file_is_a_sentence(tmp_path):
    (tmp_path / "a.png").mkdir()
    with (
        pytest.raises(CifakeError, match="a folder lies where a file is needed"),
        files.replacing(tmp_path / "a.png") as partial,
    ):
        partial.write_bytes(b"a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_is_a_sentence_and_the_next_run_goes_on(small, full_disk):  # noqa: F811
    fill, free = full_disk
    fill()
    with pytest.raises(CifakeError, match=r"npy can't be written: .*Free some space.*CIFAKE_RUNS.*are kept"):
        result("resnet50_fractal_loss")
    free()
    folder = next(small.glob("cache/features-*"))
    assert not [path for path in folder.iterdir() if path.suffix == ".npy" or path.name.startswith(".")]
    expected = result("resnet50_fractal_loss")
    for path in PROFILE.runs.glob("resnet50_*"):
        path.unlink()
    fill()  # the weights of the head don't fit
    with pytest.raises(CifakeError, match=r"safetensors can't be written: .*Free some space"):
        result("resnet50_fractal_loss")
    free()
    assert same(result("resnet50_fractal_loss"), expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b can't be written: No space left"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            "Permission denied: '/a/b'. Finished files are kept",
        ),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "run the same command again"),
    ],
)
def test_the_command_line_turns_errors_of_disks_into_a_paragraph(runs, monkeypatch, capsys, error, expected):
    def fail(*_):
        raise error

    monkeypatch.setattr(data, "load", fail)
    assert __main__.main(["data", "info"]) == 1
    captured = capsys.readouterr()
    assert expected in " ".join(captured.err.split()) and "Traceback" not in captured.err


def test_a_file_in_the_place_of_the_runs_is_named(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file")
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "runs"))
    with pytest.raises(CifakeError, match="CIFAKE_RUNS"):
        data.load("sample")


def test_nothing_is_run_or_fetched_where_nothing_can_be_written(runs, capsys):
    runs.write_text("a file", encoding="utf-8")
    for command in (["run"], ["data", "fetch"]):
        assert __main__.main(command) == 1
        error = " ".join(capsys.readouterr().err.split())
        assert (
            "can't be written: a file lies where a folder is needed. Choose a folder" in error
            and "CIFAKE_RUNS" in error
        )


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO])  # no right to it, no such drive, a fault
@pytest.mark.parametrize("attempt", [files.locked, files.replacing])
def test_a_folder_that_takes_no_file_is_named_before_anything_waits_for_it(tmp_path, monkeypatch, number, attempt):
    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(files.Path, "touch", refuse)
    with pytest.raises(CifakeError, match=f"new can't be written: {os.strerror(number)}.*CIFAKE_RUNS"):
        with attempt(tmp_path / "new" / "file"):
            pass


def test_a_writable_folder_is_made_and_left_empty(tmp_path):
    assert not list(files.writable(tmp_path / "a" / "b").iterdir())


NOBODY = 65_534


def as_another_user(job, *arguments):
    """Return what a job returns in a process of a user who owns nothing here."""

    def work(pipe):
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            pipe.send(job(*arguments))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")

    context = multiprocessing.get_context("fork")  # not started anew: that user may not read this Python
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    process.start()
    answer = ours.recv() if ours.poll(60) else "no answer"
    process.join(10)
    return answer


def load_as_student(name, profile):
    """Return the scores of a run that is there, and how the attempt to train another one ends."""
    _, record = experiments.train_or_load(name, profile=profile)
    try:
        experiments.train_or_load(name, seed=1, profile=profile)
    except CifakeError as error:
        return record.metrics, str(error)


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_finished_runs_of_a_teacher_are_loaded_by_everyone(small, tmp_path):  # noqa: F811
    """A frozen model, one whose layers all learn, and one on a frozen rotation backbone; nothing can be written."""
    names = ("resnet50_fractal", "resnet50_finetuned", "resnet50_rotation_frozen")
    made = {name: result(name)[1] for name in names}
    made = {name: result(name)[1] for name in names}  # loaded: what Python imports for that, the other user can't
    for parent in (tmp_path, *tmp_path.parents):  # pytest's own folders are closed to others
        if parent.owner() == "root" and "pytest" in str(parent):
            parent.chmod(0o755)
    for name in names:
        answer = as_another_user(load_as_student, name, PROFILE)
        assert isinstance(answer, tuple), answer
        metrics, error = answer
        assert metrics == made[name]
        assert "can't be written: Permission denied" in error and "CIFAKE_RUNS" in error
    folder = next(small.glob("cache/features-*"))
    assert as_another_user(features_are_there) == "there" and (folder / "lock").exists()


def features_are_there():
    model = experiments.build("resnet50_fractal", PROFILE).eval()
    features.cached(model.backbone, data.load(), ["pooled", "stem_dimension"], PROFILE.accelerator())
    return "there"


def test_a_lock_that_another_job_holds_is_waited_for(tmp_path):
    entered = threading.Event()

    def work():
        with files.locked(tmp_path / "lock"):
            entered.set()

    with FileLock(tmp_path / "lock"):
        thread = threading.Thread(target=work)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()


def test_what_another_user_may_not_read_is_named(tmp_path, monkeypatch):
    verified.save_json(tmp_path / "a.json", {"x": 1})
    verified.save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(3)})

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    for read in (verified.load_json, verified.load_tensors):
        with pytest.raises(CifakeError, match=r"can't be read: Permission denied. Ask its owner"):
            read(tmp_path / ("a.json" if read is verified.load_json else "a.safetensors"))


def test_sample_and_images_are_loaded_from_a_folder_that_is_read_only(runs, monkeypatch):
    expected = data.load("sample").hash

    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", refuse)
    assert data.load("sample").hash == expected == data.load_hash("sample")
    with pytest.raises(CifakeError, match=r"can't be written: Read-only file system.*CIFAKE_RUNS"):
        data.load(dataclasses.replace(profiles.PROFILES["sample"], sizes=(400, 100, 100)))
