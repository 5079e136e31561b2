"""What a run's history says of its training."""

import csv

from tlkit import run as run_folder


def error_by_epoch(run, figure="accuracy"):
    """Return the error in percent of each epoch of a run.

    Args:
        run: `tlkit.delivery.predict.Run`.
        figure: `"accuracy"`, of the training images as training sees them, while the epoch runs; or `"val_accuracy"`.
    """
    with (run.path / run_folder.HISTORY).open(encoding="utf-8", newline="") as file:
        return [100 * (1 - float(row[figure])) for row in csv.DictReader(file) if int(row["stage"]) >= 0]
