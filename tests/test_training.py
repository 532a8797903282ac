import functools
import itertools
import os
import sys
import types

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cifake_utils import CifakeError, batches, losses, profiles, training
from cifake_utils.support import checkpoints, verified
from tests.processes import context, die, was_killed
from tests.small import Projected

SAMPLE = profiles.PROFILES["sample"]


class Small(Projected):
    """A few layers with all that has a state: batch norm, dropout, a channels_last kernel, a projection."""

    def __init__(self):
        super().__init__(nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))


def few_images(count, seed, kind=batches.ImageBatches):
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return kind(images.to(torch.uint8), torch.arange(count) % 2, 8, stratified=True)


def run_small(checkpoint=None, train=None, seed=0, **options):
    """Return the history without seconds, and the weights of module and loss, of six epochs of six steps."""
    module, loss = Small(), losses.CombinedLoss()
    settings = {"learning_rate": 0.01, "weight_decay": 0.05, "max_norm": 1.0, "schedule": "one_cycle", "patience": None}
    history = training.fit(
        module,
        train or few_images(49, 0),
        few_images(24, 1),
        epochs=6,
        accelerator=SAMPLE.accelerator(),
        options=training.Options(**settings | options),
        seed=seed,
        loss=loss,
        checkpoint=checkpoint,
    )
    assert all(parameter.grad is None for parameter in module.parameters())  # they would take as much memory again
    history.seconds = 0.0
    return history, {**module.state_dict(), **loss.state_dict()}


def killed_run(checkpoint, moment, result):
    """Train in a process of its own, kill it at ``moment``, write what came out if it comes so far."""
    torch.set_num_threads(1)
    where, number = moment
    shuffled, save_file, replace = batches.ImageBatches.shuffled, verified.save_file, os.replace
    steps, writes = [], iter(range(100))

    def die_at_a_step(self, seed, epoch):
        for step, batch in enumerate(shuffled(self, seed, epoch)):
            if where == "step" and (epoch, step) == number:
                die()
            steps.append((epoch, step))
            yield batch

    def die_when_half_is_written(tensors, path, metadata):
        save_file(tensors, path, metadata)
        if where == "writing" and next(writes) == number:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    def die_when_all_is_written(source, target):
        replace(source, target)
        if where == "written" and next(writes) == number:
            die()

    batches.ImageBatches.shuffled = die_at_a_step
    verified.save_file, os.replace = die_when_half_is_written, die_when_all_is_written
    history, state = run_small(checkpoint)
    torch.save((history.__dict__, state, len(steps)), result)


def test_a_run_killed_at_any_moment_ends_like_one_never_killed(tmp_path):
    checkpoint, whole, resumed = (tmp_path / name for name in ("checkpoint.safetensors", "whole.pt", "resumed.pt"))
    moments = [
        ("step", (0, 2)),  # before there is a checkpoint
        ("writing", 0),  # in the middle of writing the first one
        ("written", 1),  # just after the second one
        ("writing", 1),  # in the middle of writing one where there is one
        ("step", (4, 3)),  # within an epoch
        ("never", None),
    ]
    for path, result, chain in ((None, whole, moments[-1:]), (checkpoint, resumed, moments)):
        for moment in chain:
            process = context("cifake_utils.training").Process(target=killed_run, args=(path, moment, result))
            process.start()
            process.join(60)
            assert process.exitcode == 0 if moment[0] == "never" else was_killed(process), moment
    (history, state, steps), (again, same, rest) = (torch.load(path, weights_only=True) for path in (whole, resumed))
    assert (steps, rest) == (6 * 6, 2 * 6)  # the last process went on from the end of the fourth epoch
    assert again == history and len(history["val_loss"]) == len(history["terms"]["alpha"]) == 6
    assert list(same) == list(state) and all(torch.equal(same[name], state[name]) for name in state)
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.name, resumed.name, whole.name]


def test_a_finished_checkpoint_trains_nothing_more(tmp_path, monkeypatch):
    first, state = run_small(tmp_path / "c.safetensors")
    monkeypatch.setattr(training, "_loss", None)  # would fail if anything were trained
    again, same = run_small(tmp_path / "c.safetensors")
    assert again == first and all(torch.equal(same[name], state[name]) for name in state)


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"seed": 1}, {"train": few_images(49, 5)}])
def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path, change):
    run_small(tmp_path / "c.safetensors")
    other, _ = run_small(tmp_path / "c.safetensors", **change)
    assert other == run_small(**change)[0]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"{")
    with pytest.raises(CifakeError, match=r"c.safetensors can.t be used: .*Delete it"):
        run_small(path)


class Breaking(batches.ImageBatches):
    """Batches that stop being numbers at one step of the third epoch."""

    def shuffled(self, seed, epoch):
        for step, (inputs, labels) in enumerate(super().shuffled(seed, epoch)):
            yield (inputs * float("nan") if (epoch, step) == (2, 3) else inputs), labels


@pytest.mark.parametrize(
    ("path", "kept"),
    [("c.safetensors", "last good checkpoint, of epoch 2, is .*c.safetensors"), (None, "no checkpoint")],
)
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, path, kept):
    source = few_images(49, 0, Breaking)
    checkpoint = path and tmp_path / path
    expected = rf"The loss is nan at step 4 of 6 in epoch 3, learning rate 0\.00\d+\. .*{kept}.*max_norm"
    with pytest.raises(CifakeError, match=expected):
        run_small(checkpoint, source)
    if checkpoint:
        tensors, state = checkpoints.load(checkpoint)
        assert len(state["history"]["val_loss"]) == 2
        assert all(value.isfinite().all() for value in tensors["module"].values())


def test_named_terms_are_averaged_and_the_loss_learns():
    history, state = run_small()
    assert {len(values) for values in history.terms.values()} == {6}
    total = sum(
        torch.tensor(history.terms[weight]) * torch.tensor(history.terms[term])
        for weight, term in (("alpha", "cross_entropy"), ("beta", "similarity"), ("gamma", "penalty"))
    )
    assert torch.allclose(total, torch.tensor(history.train_loss), atol=0.01)
    assert state["free"].abs().sum() > 0
    assert history.val_loss[-1] > 0  # plain cross-entropy


@pytest.mark.parametrize(("schedule", "first", "last"), [("cosine", 1.0, 0.07), ("one_cycle", 0.04, 0.05)])
def test_schedules(schedule, first, last):
    rates = run_small(schedule=schedule)[0].learning_rate
    assert rates[0] == pytest.approx(0.01 * first)
    assert 0 < rates[-1] < 0.01 * (last + 0.05) and max(rates) <= 0.01
    with pytest.raises(CifakeError, match="cosine, one_cycle"):
        training.Options(schedule="steps")


def test_clipping_limits_the_step():
    source, start = few_images(8, 0), Small().state_dict()

    def distance(max_norm):  # plain gradient descent would shrink with the limit; Adam's ε makes it show
        module = Small()
        options = training.Options(max_norm=max_norm)
        training.fit(module, source, source, epochs=1, accelerator=SAMPLE.accelerator(), options=options)
        return (module.classify.weight - start["classify.weight"]).norm().item()

    assert distance(1e-9) < 0.5 * distance(None)


def test_bfloat16_autocast_on_the_cpu(monkeypatch, with_bfloat16):
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process
    try:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        history, _ = run_small()
        assert history.train_loss[-1] < history.train_loss[0]
        module, source = Small(), few_images(16, 0)
        training.fit(module, source, source, epochs=1, accelerator=SAMPLE.accelerator())
        inputs = next(source.in_order())[0]
        expected = module.classify(module.project(inputs))
        assert torch.equal(module(inputs), expected)  # autocast ended with the training
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class Half(Small):
    """Computes in float16, which accelerate leaves out on a CPU."""

    def forward(self, *inputs, **options):
        with torch.autocast("cpu", torch.float16):
            outputs = super().forward(*inputs, **options)
        return tuple(output.float() for output in outputs) if isinstance(outputs, tuple) else outputs.float()


class Stepping(Small):
    """Notes in every epoch whether its maps are coarse."""

    def __init__(self):
        super().__init__()
        self.backbone, self.coarse = types.SimpleNamespace(), []
        self.backbone.set_coarse = self.coarse.append


@pytest.mark.parametrize(("share", "coarse"), [(0.0, []), (0.6, [True, True, False, False]), (0.2, [False] * 4)])
def test_the_first_epochs_are_coarse(share, coarse):
    module, options = Stepping(), training.Options(coarse_share=share, patience=None)
    data = (few_images(16, 0), few_images(16, 1))
    training.fit(module, *data, epochs=4, accelerator=SAMPLE.accelerator(), options=options)
    assert module.coarse == coarse
    assert ("coarse_share" in options.recipe()) == bool(share)  # so that older recipes stay as they were


def test_the_last_epoch_is_never_coarse():
    with pytest.raises(CifakeError, match=r"coarse_share is 1.0\. Expected a value at least 0 and less than 1"):
        training.Options(coarse_share=1.0, patience=None)
    with pytest.raises(CifakeError, match=r"Early stopping \(patience 5\) can't be combined with coarse epochs"):
        training.Options(coarse_share=0.5)


@pytest.mark.parametrize(
    ("option", "found", "expected"),
    [
        ("learning_rate", -1, "above 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("max_norm", 0, "None, or above 0"),
        ("patience", 0, "None, or at least 1"),
        ("smoothing", 1.5, "at least 0 and less than 1"),
        ("mixup", -1, "at least 0"),
        ("cutmix", -1, "at least 0"),
    ],
)
def test_options_out_of_their_range_are_named(option, found, expected):
    with pytest.raises(CifakeError, match=f"{option} is {found}. Expected a value {expected}"):
        training.Options(**{option: found})


@pytest.mark.parametrize("loss", [lambda logits, labels: logits.sum(), functools.partial(F.cross_entropy)])
def test_a_checkpoint_wants_a_loss_that_it_can_tell_from_others(tmp_path, loss):
    data = (few_images(16, 0), few_images(16, 1))
    settings = {"epochs": 1, "accelerator": SAMPLE.accelerator(), "options": training.Options(), "loss": loss}
    with pytest.raises(CifakeError, match="can't be told from others"):
        training.fit(Small(), *data, **settings, checkpoint=tmp_path / "c.safetensors")
    assert len(training.fit(Small(), *data, **settings).val_loss) == 1


def test_images_are_mixed_in_one_way_only():
    with pytest.raises(CifakeError, match=r"one way only\. Found mixup=0\.2 and cutmix=1\.0"):
        training.Options(mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize("option", ["smoothing", "mixup", "cutmix"])
def test_options_for_plain_cross_entropy_are_refused_with_the_combined_loss(option):
    data = (few_images(16, 0), few_images(16, 1))
    options = training.Options(**{option: 0.1})
    with pytest.raises(CifakeError, match="are for plain cross-entropy"):
        training.fit(
            Small(), *data, epochs=1, accelerator=SAMPLE.accelerator(), options=options, loss=losses.CombinedLoss()
        )


def test_smoothing_and_mixing_change_the_training_loss_as_their_formulas_say():
    class Fixed(Small):
        """Keeps what it was given, and gives logits that follow from it."""

        def forward(self, inputs):
            self.inputs = inputs
            return super().forward(inputs)

    module, batches = Fixed().eval(), few_images(16, 0)
    inputs, labels = next(iter(batches.in_order()))
    settings = {"train": batches, "loss": F.cross_entropy, "seed": 0}
    smooth = types.SimpleNamespace(model=module, options=training.Options(smoothing=0.1), **settings)
    log_p = module(inputs).log_softmax(1)
    expected = -(0.9 * log_p[range(len(labels)), labels] + 0.1 * log_p.mean(1)).mean()
    assert torch.isclose(training._loss(smooth, inputs, labels, (1.0, 0.0, 0.0))[0], expected, rtol=1e-4)
    mixed = types.SimpleNamespace(model=module, options=training.Options(mixup=0.2), **settings)
    found = training._loss(mixed, inputs, labels, (0.7, 0.0, 0.0))[0]
    assert torch.equal(module.inputs, 0.7 * inputs + (1 - 0.7) * inputs.flip(0))
    log_p = module(0.7 * inputs + 0.3 * inputs.flip(0)).log_softmax(1)
    rows = range(len(labels))
    expected = -(0.7 * log_p[rows, labels] + 0.3 * log_p[rows, labels.flip(0)]).mean()
    assert torch.isclose(found, expected, rtol=1e-4)
    cut = types.SimpleNamespace(model=module, options=training.Options(cutmix=1.0), **settings)
    found = training._loss(cut, inputs, labels, (0.75, 0.0, 0.25))[0]
    pasted = inputs.clone()  # of a square with half the width, the lower half lies inside
    pasted[:, :, 0:8, 0:16] = inputs.flip(0)[:, :, 0:8, 0:16]
    assert torch.equal(module.inputs, pasted)
    log_p = module(pasted).log_softmax(1)
    expected = -(0.875 * log_p[rows, labels] + 0.125 * log_p[rows, labels.flip(0)]).mean()
    assert torch.isclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("options", [{"mixup": 0.2}, {"cutmix": 1.0}], ids=str)
def test_how_images_are_mixed_depends_on_seed_and_epoch_alone(options):
    run = types.SimpleNamespace(train=few_images(160, 0), seed=0, options=training.Options(**options))
    mixes = training._mixes(run, 3)
    assert len({*mixes}) == len(run.train) > 1 and all(0 <= number <= 1 for mix in mixes for number in mix)
    assert all(row != column for _, row, column in mixes)
    (parameter,) = options.values()
    run.train = range(4000)
    shares = np.array(training._mixes(run, 3))[:, 0]
    assert shares.var() == pytest.approx(1 / (8 * parameter + 4), rel=0.05)  # of a Beta distribution
    run.train = few_images(160, 0)
    assert mixes == training._mixes(run, 3) != training._mixes(run, 4)
    run.options = training.Options()
    assert {*training._mixes(run, 3)} == {(1.0, 0.0, 0.0)}


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_a_training_sees_mixed_images(option):
    seen = []

    class Watched(Small):
        def forward(self, inputs):
            seen.append(inputs)
            return super().forward(inputs)

    module, train = Watched(), few_images(16, 0)
    options = training.Options(**{option: 1.0})
    training.fit(module, train, few_images(8, 1), epochs=1, accelerator=SAMPLE.accelerator(), options=options)
    run = types.SimpleNamespace(train=train, seed=0, options=options)
    steps = zip(seen, training._mixes(run, 0), train.shuffled(0, 0), strict=False)  # validation comes after them
    for inputs, mix, (plain, _) in steps:
        share = mix[0]
        mixed = share * plain + (1 - share) * plain.flip(0)
        assert torch.equal(inputs, training.cutmix(plain, plain.flip(0), *mix)[0] if option == "cutmix" else mixed)
        assert not torch.equal(inputs, plain)


def test_features_have_no_squares():
    features = batches.FeatureBatches(torch.zeros(16, 2, 8), torch.arange(16) % 2, 8)
    options = training.Options(cutmix=1.0)
    with pytest.raises(CifakeError, match=r"cutmix replaces squares of images\. Found inputs of shape \(16, 2, 8\)"):
        training.fit(nn.Linear(8, 2), features, features, epochs=1, accelerator=SAMPLE.accelerator(), options=options)


@pytest.mark.parametrize("size", [(32, 32), (20, 48)], ids=str)
@pytest.mark.parametrize("place", [(0.0, 0.0), (0.5, 0.9), (1.0, 0.3)])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_cutmix_says_which_share_of_the_pixels_it_has_kept(share, place, size):
    white, black = torch.ones(2, 3, *size), torch.zeros(2, 3, *size)
    mixed, kept = training.cutmix(white, black, share, *place)
    assert mixed.mean().item() == pytest.approx(kept) and kept >= share - 0.05
    assert white.all()  # its input is unchanged


@pytest.fixture
def float16(monkeypatch):
    """As on a GPU that has float16 alone. The scale starts where gradients overflow, and grows after three steps."""
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one precision a process
    monkeypatch.setattr(profiles, "precisions", lambda device: ["fp16"])
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**22, growth_interval=3)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    monkeypatch.setattr(sys.modules[__name__], "Small", Half)
    scales, update = [], torch.amp.grad_scaler.GradScaler.update

    def noted(self):
        scales.append(self.get_scale())
        update(self)

    monkeypatch.setattr(torch.amp.grad_scaler.GradScaler, "update", noted)
    yield scales
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("max_norm", [None, 1e-8])  # so short that Adam's ε makes it show
def test_float16_leaves_steps_out_that_overflow_and_learns_as_float32(float16, max_norm, monkeypatch):
    history, state = run_small(max_norm=max_norm)
    halved = sum(after < before for before, after in itertools.pairwise(float16))
    assert 0 < halved < len(float16) / 2 == 18
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(profiles, "precisions", lambda device: ["no"])
    monkeypatch.setattr(sys.modules[__name__], "Small", Half.__base__)
    expected, usual = run_small(max_norm=max_norm)
    assert history.learning_rate == expected.learning_rate  # the schedule counts batches, not steps
    assert history.train_loss == pytest.approx(expected.train_loss, abs=0.02)
    start = Small().state_dict()["classify.weight"]
    moved = [(weights["classify.weight"] - start).norm().item() for weights in (state, usual)]
    assert moved[0] == pytest.approx(moved[1], rel=0.5)


def test_an_interrupted_float16_run_goes_on_with_its_scale(float16, tmp_path, monkeypatch):
    whole, state = run_small(tmp_path / "whole.safetensors")
    shuffled = batches.ImageBatches.shuffled

    def interrupted(self, seed, epoch):
        for step, batch in enumerate(shuffled(self, seed, epoch)):
            if (epoch, step) == (2, 3):
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batches.ImageBatches, "shuffled", interrupted)
        run_small(tmp_path / "c.safetensors")
    assert len(float16) == 36 + 15
    again, same = run_small(tmp_path / "c.safetensors")
    assert len(float16) == 36 + 15 + 24
    assert again == whole and all(torch.equal(same[name], state[name]) for name in state)
    files = [checkpoints.load(tmp_path / name)[1]["scaler"] for name in ("whole.safetensors", "c.safetensors")]
    assert files[0] == files[1] and files[0]["scale"] != 2.0**22


def test_a_gradient_that_overflows_at_any_scale_stops_the_run(float16, monkeypatch):
    def broken(self):
        plain(self)
        self.classify.bias.register_hook(lambda gradient: gradient * float("nan"))

    plain = Half.__init__
    monkeypatch.setattr(Half, "__init__", broken)
    with pytest.raises(
        CifakeError, match=r"The gradient overflows float16, .* at step 6 of 6 in epoch 4, .*learning_rate"
    ):
        run_small()


class Constant(nn.Module):
    """Logits that grow more confident by one parameter, right or wrong."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, inputs):
        return inputs * self.scale


def test_early_stopping_keeps_the_best_weights():
    # What is learned on the training labels is wrong on the validation labels: its loss only rises.
    inputs = torch.tensor([[-1.0, 1.0]] * 8).unsqueeze(1).expand(8, 2, 2)
    train = batches.FeatureBatches(inputs, torch.ones(8, dtype=torch.long), 4)
    val = batches.FeatureBatches(inputs, torch.zeros(8, dtype=torch.long), 4)
    module = Constant()
    options = training.Options(learning_rate=0.1, patience=3)
    history = training.fit(module, train, val, epochs=50, options=options, accelerator=SAMPLE.accelerator())
    assert len(history.val_loss) == 4 and history.best_epoch == 0
    assert history.train_loss == sorted(history.train_loss, reverse=True)
    assert module.scale.item() == pytest.approx(0.2, abs=0.01)  # two steps of Adam in the best epoch, undone after


def test_a_training_that_is_not_stopped_early_keeps_the_last_weights(tmp_path):
    inputs = torch.tensor([[-1.0, 1.0]] * 8).unsqueeze(1).expand(8, 2, 2)
    train = batches.FeatureBatches(inputs, torch.ones(8, dtype=torch.long), 4)
    val = batches.FeatureBatches(inputs, torch.zeros(8, dtype=torch.long), 4)
    module, options = Constant(), training.Options(learning_rate=0.1, patience=None)
    history = training.fit(module, train, val, epochs=5, options=options, accelerator=SAMPLE.accelerator())
    assert history.best_epoch == 4 and history.val_loss == sorted(history.val_loss)
    assert module.scale.item() > 0.5  # ten steps of Adam, whose rate falls along a cosine
    assert options.recipe()["kept"] == "last epoch" and "kept" not in training.Options().recipe()


class Waits(TorchDispatchMode):
    """Counts what makes the CPU wait for the device: values read or given by Python, shapes that depend on values."""

    NAMES = frozenset({"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "_unique2"})

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in self.NAMES
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("combined", [True, False])
def test_loop_never_waits_for_the_device(monkeypatch, combined):
    copies = []
    for name in ("tolist", "numpy", "cpu"):  # on a CPU these are no operations that a dispatch mode sees
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *args, method=method: copies.append(1) or method(self, *args)
        )
    counts = []
    for images in (80, 240):
        train, val, copies[:] = few_images(images, 0), few_images(images, 1), []
        loss = losses.CombinedLoss() if combined else nn.functional.cross_entropy
        with Waits() as waits:
            options = training.Options(max_norm=1.0, patience=None)
            training.fit(Small(), train, val, epochs=2, accelerator=SAMPLE.accelerator(), options=options, loss=loss)
        counts.append((waits.count, len(copies)))
    assert counts[0] == counts[1]  # thirty steps an epoch wait as often as ten: at its end
    assert all(count > 0 for count in counts[0])


def test_the_combined_loss_is_given_labels_of_two_classes_alone():
    train = few_images(24, 0)
    train.labels[5] = -100  # which cross-entropy would leave out without a word
    with pytest.raises(CifakeError, match="label -100"):
        run_small(train=train)


def test_compiled_training_is_the_same(monkeypatch, tmp_path):
    plain, state = run_small()
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps one setting a process
    try:
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "aot_eager")  # traces and cuts as inductor, compiles nothing
        history, compiled = run_small(tmp_path / "c.safetensors")
        monkeypatch.setattr(training, "_loss", None)  # would fail if anything were trained
        assert run_small(tmp_path / "c.safetensors")[0] == history
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.compiler.reset()
    assert history.val_loss == pytest.approx(plain.val_loss, abs=1e-4)
    assert list(compiled) == list(state)
    assert set(checkpoints.load(tmp_path / "c.safetensors")[0]["module"]) == set(Small().state_dict())
