"""What a run says of an image, for each kind of task; the model itself is a table here."""

import numpy as np
import pytest
from fake_runs import outputs, write_run

from tlkit.delivery.predict import Run
from tlkit.errors import TlkitError
from tlkit.tasks import Task


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "probabilities", outputs)
    return Run(write_run(tmp_path / "run"))


def test_tasks_keep_their_kind_and_their_scale(run):
    assert run.tasks == {
        "cells": Task("multilabel", ("Platelets", "RBC", "WBC")),
        "count": Task("regression", (), mean=11.5, scale=4.0),
        "stage": Task("single_label", ("early", "late")),
    }


def test_answers_by_kind(run):
    first, second, third = run.predict([np.zeros((8, 8), np.uint8)] * 3)
    assert first.answers["cells"].labels == ("RBC", "WBC")  # the most probable first
    assert list(first.answers["cells"].probabilities) == ["RBC", "WBC", "Platelets"]
    assert first.answers["cells"].probabilities["WBC"] == pytest.approx(0.6)
    assert second.answers["cells"].labels == ()
    assert third.answers["cells"].labels == ("RBC", "Platelets")  # 0.5 is enough
    assert first.answers["count"].value == 12.25
    assert (second.answers["stage"].label, second.answers["stage"].probability) == ("late", 0.875)
    with pytest.raises(TlkitError, match=r"'cells', has no single label: use `.answers\['cells'\].labels`"):
        first.label  # noqa: B018


def test_the_headline_is_the_first_task_s(run):
    assert run.value == 0.9312
    assert run.interval == [0.9012, 0.9555]
    with pytest.raises(TlkitError, match="'cells', is multilabel and has no accuracy"):
        run.accuracy  # noqa: B018
