"""A run that takes as little time as a whole run can."""

import pytest
from faults import Notes
from two_blocks import ENDS, linear_head, make_model

from tlkit.api import finetune, load_data
from tlkit.training.checkpoint import Checkpoint

STAGES = [
    {"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2},
    {"unfreeze": 1, "epochs": 2, "learning_rate": 1e-2},
]
SETTINGS = {"data.batch_size": 8, "data.views": 1, "data.augment": "none", "evaluation.tta": "none"}


@pytest.fixture(scope="session")
def small_photos(photo_folder, tmp_path_factory):
    """Twenty-four photos of three classes."""
    return photo_folder(tmp_path_factory.mktemp("small") / "photos", classes=("a", "b", "c"), per_class=8, size=20)


@pytest.fixture
def small_run(small_photos, monkeypatch):
    """Function that makes a run on them, or goes on with it: `small_run(out, resume=False, **settings) -> notes`.

    Its state is saved after every step, and nothing is drawn for its report.
    """
    monkeypatch.setattr("tlkit.api.job.report_job", lambda job: None)
    monkeypatch.setattr(Checkpoint, "is_due", lambda checkpoint: True)

    def run(out, resume=False, photos=small_photos, stages=STAGES, recipe=None, **settings):
        notes = Notes()
        data = load_data(photos)
        model = make_model(linear_head, size=16, tasks=data.tasks)
        more = {"settings": SETTINGS | settings, "stages": stages, "block_ends": ENDS, "cache": "off"}
        if recipe:
            more = {"recipe": recipe, "block_ends": ENDS}
        finetune(model, data, out=out, resume=resume, listener=notes, **more)
        return notes

    return run


@pytest.fixture(scope="session")
def undisturbed(small_photos, tmp_path_factory):
    """The folder of such a run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        out = tmp_path_factory.mktemp("undisturbed") / "run"
        small_run.__wrapped__(small_photos, patch)(out)
    return out
