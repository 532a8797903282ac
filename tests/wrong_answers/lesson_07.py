"""Wrong answers to the exercises of lesson 07, which its checks must reject."""

import math

import torch

from cifake_utils import batches, rotation


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
            (0.5, "gone"),
            (0.8, "gone"),
            (0.5, "still there"),
            (0.62, "still there"),
            (80, "still there"),
            ("many", "still there"),
            (0.8, "perhaps"),
        ],
    }
