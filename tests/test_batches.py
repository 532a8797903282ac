import torch

from cifake_utils import batches

IMAGES = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)
LABELS = torch.arange(10) % 2


def test_normalise_matches_torchvision():
    from torchvision.transforms.v2 import functional as F

    expected = F.normalize(IMAGES.float() / 255, batches.MEAN, batches.STD)
    result = batches.normalise(IMAGES)
    assert torch.allclose(result, expected, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_in_order_is_every_image_unchanged():
    found = list(batches.ImageBatches(IMAGES, LABELS, 4).in_order())
    assert [len(labels) for _, labels in found] == [4, 4, 2]
    assert torch.equal(torch.cat([inputs for inputs, _ in found]), batches.normalise(IMAGES))
    assert torch.equal(torch.cat([labels for _, labels in found]), LABELS)


def test_shuffled_is_every_image_once_and_some_of_them_mirrored():
    numbers = torch.arange(10)
    found = list(batches.ImageBatches(IMAGES, numbers, 4).shuffled(seed=0, epoch=0))
    order = torch.cat([labels for _, labels in found])
    assert sorted(order.tolist()) == list(range(10)) and order.tolist() != list(range(10))
    inputs = torch.cat([inputs for inputs, _ in found])
    plain, mirrored = batches.normalise(IMAGES[order]), batches.normalise(IMAGES[order].flip(3))
    kept = [torch.equal(a, b) for a, b in zip(inputs, plain, strict=True)]
    flipped = [torch.equal(a, b) for a, b in zip(inputs, mirrored, strict=True)]
    assert all(a != b for a, b in zip(kept, flipped, strict=True)) and any(kept) and any(flipped)


def test_images_are_moved_by_whole_pixels_with_mirrored_borders():
    from torch.nn.functional import pad

    moves = torch.tensor([[2, 0], [-1, 3], [0, 0], [-2, -2]])
    wide = pad(IMAGES[:4].float(), [3] * 4, mode="reflect").to(torch.uint8)
    for image, moved, (down, right) in zip(wide, batches.shifted(IMAGES[:4], moves), moves.tolist(), strict=True):
        assert torch.equal(moved, image[:, 3 - down : 35 - down, 3 - right : 35 - right])


def test_shuffled_images_are_moved_by_at_most_the_shift_and_others_never():
    inside = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    inside[:, :, 16, 16] = 255
    source = batches.ImageBatches(inside, torch.arange(200), 50, shift=2)
    places = set()
    for inputs, _ in source.shuffled(0, 0):
        places |= {(row, min(column, 31 - column)) for row, column in (inputs[:, 0] > 1).nonzero()[:, 1:].tolist()}
    assert {row for row, _ in places} == set(range(14, 19)) and {column for _, column in places} <= set(range(13, 16))
    for inputs, _ in source.in_order():
        assert (inputs[:, 0, 16, 16] > 1).all()
    (first, _), (again, _) = (next(source.shuffled(3, 1)) for _ in range(2))
    assert torch.equal(first, again)


def test_epochs_differ_and_the_same_epoch_repeats():
    source = batches.ImageBatches(IMAGES, torch.arange(10), 10)
    first, again, second = (next(source.shuffled(0, epoch))[1].tolist() for epoch in (0, 0, 1))
    assert first == again != second


def test_features_take_the_same_images_and_sides():
    numbers = torch.arange(10)
    features = torch.stack([IMAGES.flatten(1).float(), IMAGES.flip(3).flatten(1).float()], 1)
    for (x, a), (f, b) in zip(
        batches.ImageBatches(IMAGES, numbers, 4).shuffled(1, 2),
        batches.FeatureBatches(features, numbers, 4).shuffled(1, 2),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert torch.equal(x, batches.normalise(f.view(-1, 3, 32, 32).to(torch.uint8)))


def test_a_last_batch_of_one_joins_the_one_before():
    for count, sizes in ((9, [4, 5]), (10, [4, 4, 2]), (4, [4]), (1, [1])):
        source = batches.ImageBatches(IMAGES[:count], LABELS[:count], 4)
        assert [len(labels) for _, labels in source.shuffled(0, 0)] == sizes and len(source) == len(sizes)


def test_stratified_batches_hold_both_labels_in_equal_share():
    labels, numbers = torch.arange(40) < 20, torch.arange(40)
    images = numbers.to(torch.uint8).view(40, 1, 1, 1).expand(40, 3, 32, 32)
    source = batches.ImageBatches(images, labels.long(), 8, stratified=True)
    orders = []
    for epoch in (0, 1, 0):
        found = list(source.shuffled(0, epoch))
        assert [found_labels.sum().item() for _, found_labels in found] == [4] * 5
        shown = torch.cat([inputs[:, 0, 0, 0] for inputs, _ in found])
        assert len(shown.unique()) == 40
        orders.append(shown.tolist())
    assert orders[0] == orders[2] != orders[1]


def test_stratified_batches_keep_unequal_shares():
    source = batches.ImageBatches(IMAGES[:1].expand(40, 3, 32, 32), (torch.arange(40) < 10).long(), 8, stratified=True)
    assert [labels.sum().item() for _, labels in source.shuffled(0, 0)] == [2] * 5
