"""Two CPU processes do what one does: the same steps, features, scores and files."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate import notebook_launcher
from torch import nn

from cifake_utils import (
    CifakeError,
    __main__,
    batches,
    data,
    experiments,
    features,
    losses,
    models,
    profiles,
    rotation,
    training,
    weights,
)
from cifake_utils.support.fingerprint import state_hash
from tests.processes import context, die, was_killed
from tests.small import Narrow, Projected, cifake

PROFILE = dataclasses.replace(profiles.PROFILES["sample"], epochs=5)
PATIENCE = 600  # seconds, for a machine that is busy with other work
ENVIRONMENT = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
if sys.platform == "win32":
    ENVIRONMENT["USE_LIBUV"] = "0"  # which torch for Windows may be built without


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def member(rank, port, folder, job, arguments):
    """Be one process of two: do the job and write what it returns."""
    os.environ |= ENVIRONMENT | {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": port}
    os.environ["CIFAKE_RUNS"] = str(folder / "runs")
    torch.set_num_threads(1)
    torch.save(job(*arguments), folder / f"{rank}.pt")


def start_two(folder, job, *arguments):
    port, starter = free_port(), context("cifake_utils.experiments")
    pair = [starter.Process(target=member, args=(rank, port, folder, job, arguments)) for rank in range(2)]
    for process in pair:
        process.start()
    return pair


def results_of_two(folder, job, *arguments):
    pair = start_two(folder, job, *arguments)
    for process in pair:
        process.join(PATIENCE)
    assert [process.exitcode for process in pair] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


class Plain(Projected):
    """A few layers without batch norm, whose values depend on one image each."""

    def __init__(self):
        super().__init__(nn.ReLU())


def few_images(count, seed):
    """Bright FAKE and dark REAL images in batches of 8; 49 of them end in a batch of 9."""
    labels = torch.arange(count) % 2
    images = torch.randint(0, 128, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return batches.ImageBatches((images + 40 * labels[:, None, None, None]).to(torch.uint8), labels, 8)


def train_plain(checkpoint=None, die_at=None):
    """Return the curves, the last P(FAKE) of 23 images, and the weights, of four epochs of six steps."""
    accelerator, module, val = PROFILE.accelerator(), Plain(), few_images(23, 1)
    shuffled = batches.ImageBatches.shuffled

    def die_at_a_step(self, seed, epoch):
        for step, batch in enumerate(shuffled(self, seed, epoch)):
            if (epoch, step, self.process) == die_at:
                die()
            yield batch

    if die_at:
        batches.ImageBatches.shuffled = die_at_a_step
    history = training.fit(
        module,
        few_images(49, 0),
        val,
        epochs=4,
        accelerator=accelerator,
        options=training.Options(0.01, 0.05, "one_cycle", max_norm=1.0, patience=None),
        checkpoint=checkpoint,
    )
    history.seconds = 0.0
    return vars(history), torch.from_numpy(training.predict(module, val.shared(accelerator))), module.state_dict()


def same(first, second):
    """Whether two results of `train_plain` are equal, bit for bit."""
    return first[0] == second[0] and all(
        torch.equal(a, b) for a, b in zip((first[1], *first[2].values()), (second[1], *second[2].values()), strict=True)
    )


def test_an_error_on_the_command_line_ends_all_processes():
    launch = f"accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port {free_port()}"  # CPUs too
    command = [sys.executable, "-m", *launch.split(), "-m", "cifake_utils", "train", "resnet51"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=False
    )
    message = "no experiment 'resnet51'"
    assert done.returncode and message in done.stderr and "Traceback" not in done.stderr.split(message)[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes make of `train_plain`, each."""
    return results_of_two(tmp_path_factory.mktemp("pair"), train_plain)


def test_two_processes_take_the_steps_of_one(pair):
    curves, p_fake, state = train_plain()
    assert same(*pair)
    found, found_p, found_state = pair[0]
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert found[name] == pytest.approx(curves[name], abs=1e-5), name
    assert curves["train_loss"][-1] < curves["train_loss"][0] - 0.01  # something was learned at all
    assert found["learning_rate"] == curves["learning_rate"]
    assert torch.allclose(found_p, p_fake, atol=1e-5)
    assert all(torch.allclose(found_state[name], value, atol=1e-4) for name, value in state.items())


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_processes_go_on_to_the_same_end(pair, tmp_path, victim):
    checkpoint = tmp_path / "checkpoint.safetensors"
    processes = start_two(tmp_path, train_plain, checkpoint, (2, 3, victim))
    processes[victim].join(PATIENCE)
    assert was_killed(processes[victim]) and checkpoint.exists()
    processes[1 - victim].kill()  # as the launcher does
    processes[1 - victim].join(PATIENCE)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(checkpoint.read_bytes())
    for resumed in results_of_two(tmp_path, train_plain, checkpoint):
        assert same(resumed, pair[0])
    curves, *_ = train_plain(alone)  # one process takes up what two began
    assert curves["train_loss"][:2] == pair[0][0]["train_loss"][:2]
    assert curves["val_loss"] == pytest.approx(pair[0][0]["val_loss"], abs=1e-5)


def train_head():
    """Return what there is to compare of a model with the combined loss on cached features."""
    data.load = lambda profile=None: cifake(12)
    features.BATCH_SIZE = 5  # batches of 5, 5 and 2 for two processes
    model, record = experiments.train_or_load("resnet50_fractal_loss", profile=PROFILE)
    record.curves["seconds"] = 0.0
    return record.curves, torch.from_numpy(record.probabilities["test"]), model.learned_state(), record.details


def train_all():
    """Return the turns' curve, details and weights of a model that learns rotations, then everything."""
    curves, p_fake, learned, details = train_head()
    models.backbone = lambda start, layout: Narrow()
    options = training.Options(learning_rate=1e-3)
    backbone, report = rotation.pretrained(weights.NONE, cifake(12), PROFILE, 0, 6, options)
    moved = backbone.hash != state_hash(Narrow().state_dict())
    return (curves, p_fake, learned), details, report["curves"], moved, backbone.hash


def test_models_and_features_of_two_processes(tmp_path, runs, monkeypatch):
    first, second = results_of_two(tmp_path, train_all)  # in the same CIFAKE_RUNS, of which one process writes
    assert same(first[0], second[0]) and first[1:] == second[1:]
    head, details, turns, moved, _ = first
    assert moved and len(turns["val_loss"]) == 1
    shared = {path.name: path.read_bytes() for path in runs.glob("cache/features-*/*.npy")}
    assert not list(runs.rglob(".*")) and not list(runs.rglob("*unfinished*.safetensors"))

    monkeypatch.setattr(data, "load", data.load)  # put back afterwards
    monkeypatch.setattr(features, "BATCH_SIZE", features.BATCH_SIZE)
    monkeypatch.setenv("CIFAKE_RUNS", str(tmp_path / "alone"))
    *alone, details_alone = train_head()
    for name in ("train_loss", "val_loss"):
        assert head[0][name] == pytest.approx(alone[0][name], abs=1e-4), name
    assert torch.allclose(head[1].float(), alone[1].float(), atol=1e-3)
    assert details.pop("processes") == 2 and set(details) == set(details_alone)
    made = {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("cache/features-*/*.npy")}
    assert made == shared and len(made) == 3 * len(models.STATISTICS)


def wait_in_vain():
    # The launcher's own handler, which a fork inherits, can't run in a process that waits: torch kills it 30 s later.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if int(os.environ["RANK"]) == 1:
        raise CifakeError("process 1 alone has found something")
    PROFILE.accelerator().wait_for_everyone()


def write_result(folder):
    torch.save(train_plain(), folder / f"{os.environ['RANK']}.pt")


def launch_from_a_notebook(folder, job, arguments):
    os.environ |= ENVIRONMENT
    torch.set_num_threads(1)
    notebook_launcher(job, arguments, num_processes=2, use_port=free_port())


@pytest.mark.skipif(sys.platform == "win32", reason="accelerate's notebook_launcher forks, which Windows can't")
@pytest.mark.parametrize(("job", "status"), [(write_result, 0), (wait_in_vain, 1)])
def test_launch_from_a_notebook(pair, tmp_path, job, status):
    arguments = (tmp_path,) if job is write_result else ()
    process = context("cifake_utils.experiments").Process(
        target=launch_from_a_notebook, args=(tmp_path, job, arguments)
    )
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == status  # an error in one process ends all of them, and none waits for ever
    written = [torch.load(path, weights_only=True) for path in sorted(tmp_path.iterdir())]
    assert len(written) == (0 if status else 2) and all(same(result, pair[0]) for result in written)


def test_commands_for_one_process_are_refused_to_several(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert __main__.main(["results"]) == 1
    assert "2 processes were started for `results`" in capsys.readouterr().err
    for nothing in ("", "auto", "1"):
        monkeypatch.setenv("WORLD_SIZE", nothing)
        assert __main__.main(["data", "info"]) == 0


def share_of(source, process, processes):
    return source.shared(SimpleNamespace(process_index=process, num_processes=processes))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_shares_make_up_the_batches(processes):
    source = few_images(49, 0)
    shares = [share_of(source, process, processes) for process in range(processes)]
    whole = list(source.shuffled(0, 3))
    assert source.sizes() == [len(labels) for _, labels in whole] == [8, 8, 8, 8, 8, 9]
    parts = zip(*(share.shuffled(0, 3) for share in shares), strict=True)
    for (inputs, labels), pieces in zip(whole, parts, strict=True):
        assert torch.equal(torch.cat([piece for piece, _ in pieces]), inputs)
        assert torch.equal(torch.cat([piece for _, piece in pieces]), labels)
        sizes = [len(piece) for _, piece in pieces]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_shares_in_order_are_put_together_again(processes, monkeypatch):
    source = few_images(50, 0)
    source.labels = torch.arange(50)
    shares = [share_of(source, process, processes) for process in range(processes)]
    parts = [torch.cat([labels for _, labels in share.in_order()]) for share in shares]
    assert len({len(part) for part in parts}) == 1
    monkeypatch.setattr(batches, "gather", lambda values: torch.cat(parts))
    assert all(torch.equal(share.gather(None), source.labels) for share in shares)


def test_what_cannot_be_shared_is_refused():
    options = training.Options()
    with pytest.raises(CifakeError, match=r"a batch of 8 images for 5 processes.*fewer"):
        training._require_shares(share_of(few_images(49, 0), 0, 5), None, options)
    with pytest.raises(CifakeError, match=r"CombinedLoss compares .* 2 processes hold a share.*FeatureBatches"):
        training._require_shares(share_of(few_images(49, 0), 0, 2), losses.CombinedLoss(), options)
    for mixing in ({"mixup": 0.2}, {"cutmix": 1.0}):
        with pytest.raises(CifakeError, match=f"{next(iter(mixing))} mixes the images of a whole batch"):
            training._require_shares(share_of(few_images(48, 0), 0, 2), None, training.Options(**mixing))
