"""Wrong answers to the exercises of lesson 07, which its checks must reject."""

import math

import torch

from cifake_utils import batches, rotation
from cifake_utils.lessons import robustness


def turned(images, turns):
    return rotation.rotate(images, torch.full((len(images),), turns))


def mirrored(images):
    return batches.mirror(images, torch.full((len(images),), True))


def shared(pretext, detector):
    detector.backbone = pretext.backbone
    return detector


def without_buffers(pretext, detector):
    values = dict(pretext.backbone.named_parameters())
    for name, value in detector.backbone.named_parameters():
        value.data.copy_(values[name].data)
    return detector


def first_stage(pretext, detector):
    detector.backbone.conv1.load_state_dict(pretext.backbone.conv1.state_dict())
    return detector


def other_way(pretext, detector):
    pretext.backbone.load_state_dict(detector.backbone.state_dict())
    return detector


def with_head(pretext, detector):
    detector.load_state_dict(pretext.state_dict())
    return detector


def new_head(pretext, detector):
    detector.backbone.load_state_dict(pretext.backbone.state_dict())
    detector.head.reset_parameters()
    return detector


def without_return(pretext, detector):
    detector.backbone.load_state_dict(pretext.backbone.state_dict())


def encoded(images, quality=75):
    return robustness.jpeg(images, quality)


def twice(images, turns):
    return encoded(rotation.rotate(encoded(images), turns))


def wrong_answers() -> dict[str, list[tuple]]:
    return {
        "eight_answers": [(math.log(4),), (math.log(6),), (3,), (1 / 8,), (-math.log(8),), (1.0,), ("log 8",)],
        "trace_alone": [(0.8,), (0.5,), (0.25,), (0.2,), (0.45,), (40,), (0.64,)],
        "upside_down": [
            (lambda images: images,),
            (mirrored,),
            (lambda images: turned(images, 2),),
            (lambda images: turned(images, 1),),
            (lambda images: turned(mirrored(images), 1),),
            (lambda images: turned(mirrored(images), 3),),
            (lambda images: images[:, :, 1:],),
            (lambda images: images.missing,),
            ("flip",),
        ],
        "transferred": [
            (shared,),
            (without_buffers,),
            (first_stage,),
            (other_way,),
            (with_head,),
            (new_head,),
            (without_return,),
            (lambda pretext, detector: detector,),
            (lambda pretext, detector: pretext,),
            (lambda pretext, detector: detector.backbone,),
            (3,),
        ],
        "encoded_twice": [
            (lambda images, turns: rotation.rotate(encoded(images), turns), 0.8175, "still there"),
            (lambda images, turns: encoded(rotation.rotate(images, turns)), 0.5, "gone"),
            (lambda images, turns: encoded(encoded(rotation.rotate(images, turns))), 0.5, "gone"),
            (lambda images, turns: rotation.rotate(encoded(encoded(images)), turns), 0.8, "still there"),
            (lambda images, turns: encoded(rotation.rotate(encoded(images), turns), 50), 0.8475, "still there"),
            (0.8, 0.8, "still there"),
            (twice, 0.5, "gone"),
            (twice, 0.8, "gone"),
            (twice, 0.5, "still there"),
            (twice, 0.62, "still there"),
            (twice, 80, "still there"),
            (twice, "many", "still there"),
            (twice, 0.8, "perhaps"),
        ],
    }
