"""The command line of the series: check this machine, get the images, run the lessons, train and use the models."""

import gc
import sys

from cifake_utils.support import packages

if __name__ == "__main__":
    if reason := packages.unusable():
        sys.exit(reason)
    gc.disable()  # two fifths of the time to import what follows, and to end, went into looking for garbage among it

import argparse
import io
import os
import re
import textwrap
from functools import partial
from pathlib import Path

from safetensors import SafetensorError

from cifake_utils import CifakeError, check, data, data_sets, experiments, prediction, profiles, records
from cifake_utils.lessons import results
from cifake_utils.lessons.tables import Table
from cifake_utils.support import filenames
from cifake_utils.support.files import cannot_write, is_full

if __name__ == "__main__":
    gc.freeze()
    gc.enable()


class ParserWithProfile(argparse.ArgumentParser):
    """A parser that takes ``--profile``. So do the parsers of its commands, for which argparse takes the same class."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.add_argument(
            "--profile",
            choices=profiles.PROFILES,
            default=argparse.SUPPRESS,
            help="which images to use and how long to train; overrides CIFAKE_PROFILE",
        )


def parser() -> argparse.ArgumentParser:
    main = ParserWithProfile(prog="python -m cifake_utils", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)

    commands.add_parser(
        "check",
        help="say whether this machine has all that the active profile needs, and what to do where it has not",
        epilog="The exit status is 1 if something stops the active profile. Warnings do not count.",
    )

    data_parser = commands.add_parser("data", help="download CIFAKE, check it or count its images")
    actions = data_parser.add_subparsers(dest="action", required=True)
    fetch = actions.add_parser(
        "fetch", help="download CIFAKE and verify it; after an interruption, run the same command again"
    )
    fetch.add_argument(
        "--source", choices=("huggingface", "kaggle"), default="huggingface", help="where to download from"
    )
    actions.add_parser("verify", help="check every file, the number of images and their checksum")
    actions.add_parser("info", help="count the images of the active profile by split, label and object class")

    run = commands.add_parser("run", help="run all lessons in the active profile")
    run.add_argument(
        "--store",
        action="store_true",
        help="run them in the profile sample, and replace the outputs stored in notebooks/",
    )

    train = commands.add_parser("train", help="train a model and print its scores; a finished run is loaded instead")
    train.add_argument("name", metavar="NAME", help="which model, such as resnet50_transfer")
    train.add_argument("--seed", type=int, default=0, help="fixes the random numbers of the training (default: 0)")

    status = "The exit status is 1 if a file could not be read. All other files are scored."
    predict = commands.add_parser(
        "predict", help="say of image files whether they look REAL or FAKE, and save a picture of each", epilog=status
    )
    predict.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="an image file of any format and size")
    predict.add_argument(
        "--output", metavar="FOLDER", type=Path, help="where the pictures are saved (default: a folder among the runs)"
    )

    predict.add_argument("--json", action="store_true", help="print one JSON document, for scripts")

    evaluate = commands.add_parser(
        "evaluate", help="measure how well a model tells your FAKE images from REAL ones", epilog=status
    )
    evaluate.add_argument(
        "--fake", metavar="FOLDER", type=Path, required=True, help="a folder of FAKE images of any format and size"
    )
    evaluate.add_argument(
        "--real",
        metavar="FOLDER",
        type=Path,
        help="a folder of REAL images (default: the REAL test images of the profile)",
    )
    for command in (predict, evaluate):
        command.add_argument(
            "--model",
            metavar="NAME",
            help="a model that you trained, or general: a detector that comes with the package too, and has learned "
            "from many kinds of generators (default: the one that comes with the package and knows CIFAKE best)",
        )

    commands.add_parser("results", help="print the tables of docs/results.md and docs/detector.md")
    return main


def run_data(action: str, source: str) -> int:
    """Carry out ``data fetch``, ``data info`` or ``data verify``; return the exit status.

    ``source`` is where ``fetch`` downloads from.
    """
    if action == "info":
        cifake = data.load()
        print(f"{Table(data.info(cifake))}\n{cifake.source}, manifest hash {cifake.hash}")
        return 0
    declared = data_sets.get(profiles.active().data)
    if action == "fetch" or declared is data_sets.SAMPLE:  # nobody downloads the sample, and it checks itself
        declared = data_sets.CIFAKE
    folder = data.fetch(source) if action == "fetch" else declared.folder()
    problems = data.verify(folder, declared)
    published = ", and they are those of the reference results" if declared.manifest_hash else ""
    print("\n".join(problems) or f"{folder}: all images can be read{published}")
    return int(bool(problems))


def show(record: records.Record) -> None:
    """Print what a run was made of and what came out."""
    print(f"{record.name}, profile {record.profile}, {record.data} {record.data_hash}, weights {record.weights}")
    print(f"{'':<12}{'validation':>12}{'test':>12}")
    for metric in record.metrics["test"]:
        print(f"{metric:<12}{record.metrics['val'][metric]:>12.4f}{record.metrics['test'][metric]:>12.4f}")
    print("seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in record.seconds.items()))


def report_problems(problems: list[str]) -> int:
    """Print on stderr what is wrong with files that could not be read; return the exit status."""
    for problem in problems:
        print_error(problem)
    return int(bool(problems))


def print_error(message: str) -> None:
    text = filenames.escaped(re.sub(r"\s*\n\s*", " ", message))  # a file's name in it could command the terminal
    print(textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False), file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does; a pipe on Windows may know no ×
    options = parser().parse_args(arguments)
    if "profile" in options:
        os.environ["CIFAKE_PROFILE"] = options.profile
    try:
        processes = os.environ.get("WORLD_SIZE", "")  # `accelerate launch` sets it
        if options.command != "train" and processes.isdecimal() and int(processes) > 1:
            raise CifakeError(
                f"{processes} processes were started for `{options.command}`, which is the work of one: "
                f"`python -m cifake_utils {options.command}`. Only `train` shares its work."
            )
        if options.command == "check":
            findings = check.examine(profiles.active())
            print(check.report(findings))
            return int(any(found.status == "problem" for found in findings))
        if options.command == "data":
            return run_data(options.action, getattr(options, "source", ""))
        if options.command == "train":
            record = experiments.train_or_load(options.name, options.seed)[1]
            accelerator = profiles.active().accelerator()
            if accelerator.is_main_process:
                show(record)
            accelerator.end_training()
        elif options.command == "predict":
            write = partial(print, flush=True)
            return report_problems(
                prediction.predict(options.images, options.model, options.output, write, as_json=options.json)
            )
        elif options.command == "evaluate":
            return report_problems(prediction.evaluate(options.fake, options.real, options.model))
        elif options.command == "results":
            from cifake_utils.lessons import further  # needs the extra `lessons`

            tables = (results.recipes(), *results.detector(), further.table())
            print("\n\n".join([results.table(), *(table.markdown() for table in tables)]))
        else:
            from cifake_utils.lessons import series  # nbformat takes three seconds to import

            if options.store:
                series.store()
            else:
                series.run_and_report()
    except CifakeError as error:
        print_error(str(error))
        return 1
    except BrokenPipeError:  # whoever read the output, such as `head`, has read enough
        # Otherwise Python would complain when it flushes the output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, SafetensorError) as error:  # of a disk or a folder; all that the package writes goes by files.py
        path = getattr(error, "filename", None) or profiles.runs_folder()
        other = f"The system reported an error: {error}. Finished files are kept; run the same command again."
        print_error(str(cannot_write(path, error)) if is_full(error) else other)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
