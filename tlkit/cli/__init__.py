"""The command line: one module per command, loaded only when it is called."""

import errno
import signal
import sys
import time
from importlib import import_module

import click

from tlkit import __version__
from tlkit.errors import Stopped, Terminated, TlkitError, did_you_mean

STARTED = time.monotonic()  # when the process began, but for Python's own start

# Command to its one line of help: the modules stay unloaded while `tlkit --help` prints the list.
COMMANDS = {
    "finetune": "Make the best classifier from a folder of images.",
    "train": "Train what a recipe describes.",
    "evaluate": "Evaluate a run on its held-out images or on other data.",
    "predict": "Predict images with a run.",
    "compare": "Say whether runs differ, on the images that all of them held out.",
    "explain": "Show why a run says what it says of an image.",
    "report": "Write a run's report anew, or put several runs side by side.",
    "rank": "Say which backbone suits a folder of images, from one feature pass each.",
    "tune": "Search for better settings, and say whether they are better.",
    "lr-find": "Find the learning rates that make a stage's loss fall.",
    "reproduce": "Do a run again from its recipe, and report what differs.",
    "audit": "Say what is wrong with a folder of images.",
    "backbones": "List the pretrained networks.",
    "nets": "List the classic networks, or chart accuracy against operations.",
    "inspect": "Print a network layer by layer: shapes, memory, parameters, operations, receptive field.",
    "experiment": "Measure again what the lectures claim: depth, permuted pixels, translation, initialization.",
    "recipes": "List the recipes that ship with tlkit, or print one.",
    "datasets": "List public datasets to try.",
    "cache": "Show what the feature store holds, or clear it.",
    "demo": "Do the main job on data that ships with a dependency; no network needed.",
}


# What the system refuses and the user can mend: no space, no permission, a read-only place, a quota, a lost file,
# a name that is too long.
MENDABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
)


class LazyGroup(click.Group):
    """A group that imports `tlkit.cli.<command>` when the command is called, and not before."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        name = name.replace("-", "_")
        return getattr(import_module(f"tlkit.cli.{name}"), name)

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS)
            raise click.UsageError(f"no such command: {args[0]!r}.{hint} `tlkit --help` lists them.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tlkit")
def cli():
    """Transfer learning for images: from a folder of photos to a classifier one can trust."""


def main():
    """Run the command line and exit: 0 done, 1 a bug, 2 the user can mend it, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = cli.main(prog_name="tlkit", standalone_mode=False)
    except Stopped as stopped:
        status = _say(str(stopped), stopped.status)
    except click.exceptions.Abort:
        status = _say("interrupted", 130)
    except KeyboardInterrupt:
        status = _say("interrupted", 130)
    except Terminated:
        status = _say("terminated", 143)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        status = 0
    except click.ClickException as error:
        status = _say(f"error: {_one_line(error.format_message())}", 2)
    except TlkitError as error:
        status = _say(f"error: {_one_line(error)}", 2)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; there is nobody to tell
        status = 0
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        status = _say(f"error: {where}{error.strerror}. Mend that and try again; a run goes on with --resume", 2)
    sys.exit(status or 0)


def _terminate(_number, _frame):
    raise Terminated


def _say(text, status):
    click.echo(f"tlkit: {text}", err=True)
    return status


def _one_line(message):
    return " ".join(str(message).split())
