"""Wrong answers to the exercises of lesson 05, which its checks must reject."""

import math

import numpy as np
import torch


def orders(count, pixels, seed):
    return torch.rand(count, pixels, generator=torch.Generator().manual_seed(seed)).argsort(1)


def taken(maps, order):
    return maps.flatten(2).gather(2, order).reshape(maps.shape)


def own_order_for_each_channel(maps, seed):
    n, c, h, w = maps.shape
    return taken(maps, orders(n * c, h * w, seed).reshape(n, c, h * w))


def one_order_for_all(maps, seed):
    n, c, h, w = maps.shape
    return taken(maps, orders(1, h * w, seed)[:, None].expand(n, c, h * w))


def across_images(maps, seed):
    n = len(maps)
    return maps[orders(1, n, seed)[0]]


def whole_rows(maps, seed):
    n, c, h, w = maps.shape
    return maps.gather(2, orders(n, h, seed)[:, None, :, None].expand(n, c, h, w))


def within_rows(maps, seed):
    n, c, h, w = maps.shape
    return maps.gather(3, orders(n, h * w, seed).reshape(n, h, w).argsort(2)[:, None].expand(n, c, h, w))


def rows_and_columns(maps, seed):
    return whole_rows(whole_rows(maps, seed).mT, seed + 100).mT


def turned(maps, seed):
    turns = torch.randint(1, 4, (len(maps),), generator=torch.Generator().manual_seed(seed)).tolist()
    return torch.stack([image.rot90(turn, (1, 2)) for image, turn in zip(maps, turns, strict=True)])


def shifted(maps, seed):
    steps = torch.randint(1, 8, (len(maps), 2), generator=torch.Generator().manual_seed(seed)).tolist()
    return torch.stack([image.roll(step, (1, 2)) for image, step in zip(maps, steps, strict=True)])


def within_quarters(maps, seed):
    n, c, h, w = maps.shape
    quarters = maps.reshape(n, c, 2, h // 2, 2, w // 2).transpose(3, 4).reshape(n, c, 4, -1)
    order = orders(n * 4, quarters.shape[-1], seed).reshape(n, 1, 4, -1).expand_as(quarters)
    return quarters.gather(3, order).reshape(n, c, 2, 2, h // 2, w // 2).transpose(3, 4).reshape(maps.shape)


def right_order(maps, seed):
    n, c, h, w = maps.shape
    return taken(maps, orders(n, h * w, seed)[:, None].expand(n, c, h * w))


def unseeded(maps, seed):
    return right_order(maps, int(torch.randint(10**9, ())))


def answers(b, c, both=300, neither=50):
    first = np.repeat([True, False, True, False], [b, c, both, neither])
    second = np.repeat([False, True, True, False], [b, c, both, neither])
    return {"as they are": first, "scrambled": second}, b + c + both + neither


def wrong_answers() -> dict[str, list[tuple]]:
    far, near = answers(60, 10), answers(22, 20)
    return {
        "dimension_of_counts": [
            (math.log(40 / 3) / 2,),
            (math.log2(40 / 3),),
            (-math.log2(40 / 3) / 2,),
            (math.log2(40 / 12),),
            (math.log2(40) / 2,),
            (2.0,),
            (1.0,),
            ("high",),
        ],
        "dimensions_of_larger_images": [(320,), (1856,), (512,), (3,), (2880,), (0,)],
        "standardised": [
            (lambda train, other: (other - other.mean(0)) / other.std(0),),
            (lambda train, other: (other - train.mean(0)) / train.std(0),),
            (lambda train, other: other - train.mean(0),),
            (lambda train, other: (other - train.mean(0)) / train.std(0).clamp_min(1),),
            (lambda train, other: (other - train.mean(0)) / (train.std(0) + 1e-6),),
            (lambda train, other: (other - train.mean(0)) / (train.var(0) + (train.var(0) == 0)),),
            (lambda train, other: (other - train.mean()) / train.std(),),
            (lambda train, other: (other - train.mean(0)) / other.std(0),),
            (lambda train, other: (other - other.mean(0)) / (train.std(0) + (train.std(0) == 0)),),
            (lambda train, other: (train - train.mean(0)) / (train.std(0) + (train.std(0) == 0)),),
            (lambda train, other: other / (train.std(0) + (train.std(0) == 0)),),
            (3,),
        ],
        "scrambled": [
            (lambda maps, seed: maps,),
            (lambda maps, seed: torch.rand(maps.shape),),
            (lambda maps, seed: maps[0],),
            (lambda maps, seed: maps.tolist(),),
            (lambda maps, seed: right_order(maps, 0),),
            (lambda maps, seed: 1 / 0,),
            (own_order_for_each_channel,),
            (one_order_for_all,),
            (across_images,),
            (whole_rows,),
            (within_rows,),
            (rows_and_columns,),
            (turned,),
            (shifted,),
            (within_quarters,),
            (unseeded,),
            (lambda maps, seed: maps.flip(3),),
        ],
        "arrangement": [
            (*far, "cannot tell"),
            (*far, "scrambled"),
            (*near, "as they are"),
            (*far, "both"),
            ({name: found.astype(int) for name, found in far[0].items()}, far[1], "as they are"),
            ({name: ~found for name, found in far[0].items()}, far[1], "as they are"),
            ({"as they are": far[0]["scrambled"], "scrambled": far[0]["scrambled"]}, far[1], "cannot tell"),
            ({"a": far[0]["scrambled"], "b": far[0]["scrambled"]}, far[1], "cannot tell"),
        ],
    }
