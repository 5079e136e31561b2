"""What users get wrong: one clear line on stderr, exit status 2, and no run folder left behind."""

import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tlkit.cli import main


def write_csv(text, encoding="utf-8"):
    def prepare(here):
        (here / "labels.csv").write_text(text, encoding)

    return prepare


def no_files(_here):
    pass


def empty_folder(here):
    (here / "empty").mkdir()


def loose_images(here):
    shutil.copytree(here / "photos" / "a", here / "loose")


def one_class(here):
    shutil.copytree(here / "photos" / "a", here / "one" / "a")


def tiny_class(here):
    shutil.copytree(here / "photos", here / "few")
    for image in sorted((here / "few" / "b").iterdir())[2:]:
        image.unlink()


def copies_only(here):
    """Class b: many files, but all of them the same image, hence one group."""
    shutil.copytree(here / "photos", here / "copies")
    first, *others = sorted((here / "copies" / "b").iterdir())
    for image in others:
        image.write_bytes(first.read_bytes())


def all_truncated(here):
    for image in (here / "photos").rglob("*.*"):
        image.write_bytes(image.read_bytes()[:40])


def archive(here):
    (here / "photos.zip").write_bytes(b"PK")


def full_folder(here):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("keep me")


def a_file(here):
    (here / "mine").write_text("keep me")


def a_file_named_png(here):
    (here / "mine.png").write_text("keep me")


def broken_recipe(here):
    (here / "mine.toml").write_text("seed = = 0")


def recipe_with_typo(here):
    (here / "mine.toml").write_text("[data]\nbatchsize = 4")


def views_file(text):
    def prepare(here):
        (here / "mine.toml").write_text(text)

    return prepare


def not_hdf5(here):
    (here / "w.weights.h5").write_text("not HDF5")


def head_of_wrong_width(here):
    (here / "my_heads.py").write_text(
        "import keras\ndef wide(x):\n    return keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(x))\n"
    )


FINETUNE = "finetune --data photos --set data.image_size=32"

# What is prepared, the command, and what its one line must say.
TRAINING_MISTAKES = {
    "no data": (no_files, "finetune", "--data: missing"),
    "no such folder": (no_files, "finetune --data photo", "Did you mean 'photos'?"),
    "empty folder": (empty_folder, "finetune --data empty", "no images found"),
    "no class folders": (loose_images, "finetune --data loose", "no class folders"),
    "one class": (one_class, "finetune --data one", "at least two classes"),
    "class too small": (tiny_class, "finetune --data few", "'b'"),
    "class of copies": (copies_only, "finetune --data copies", "'b'"),
    "all truncated": (all_truncated, "finetune --data photos", "none of the 24 images can be used"),
    "an archive": (archive, "finetune --data photos.zip", "unpack the archive"),
    "csv: empty": (write_csv(""), "finetune --data labels.csv", "labels.csv"),
    "csv: no label": (write_csv("path,kind\nphotos/a/00.jpg,a\n"), "finetune --data labels.csv", "--task"),
    "csv: no path": (write_csv("file,label\nphotos/a/00.jpg,a\n"), "finetune --data labels.csv", "'path'"),
    "csv: missing file": (
        write_csv("path,label\nphotos/a/00.jpg,a\nphotos/a/77.jpg,b\n"),
        "finetune --data labels.csv",
        "photos/a/77.jpg",
    ),
    "csv: empty label": (write_csv("path,label\nphotos/a/00.jpg,\n"), "finetune --data labels.csv", "label"),
    "csv: bad split": (
        write_csv("path,label,split\nphotos/a/00.jpg,a,tain\n"),
        "finetune --data labels.csv",
        "tain",
    ),
    "csv: not utf-8": (
        write_csv("path,label\nphotos/a/00.jpg,gr\xfcn\n", "latin-1"),
        "finetune --data labels.csv",
        "UTF-8",
    ),
    "backbone": (no_files, "finetune --data photos --backbone resnet51", "Did you mean 'resnet50'?"),
    "weights: no file": (no_files, FINETUNE + " --weights gone.weights.h5", "gone.weights.h5"),
    "weights: not hdf5": (not_hdf5, FINETUNE + " --weights w.weights.h5", "w.weights.h5"),
    "image size": (
        no_files,
        FINETUNE + " --backbone mobilenet --weights none --set data.image_size=20",
        "at least 32 for mobilenet",
    ),
    "recipe: unknown": (no_files, "finetune --data photos --recipe quik", "Did you mean 'quick'?"),
    "recipe: no file": (no_files, "train mine.toml --data photos", "mine.toml: no such recipe file"),
    "recipe: not toml": (broken_recipe, "train mine.toml --data photos", "mine.toml: must be a TOML file"),
    "recipe: typo": (recipe_with_typo, "train mine.toml --data photos", "Did you mean 'batch_size'?"),
    "recipe: missing": (no_files, "train --data photos", "RECIPE"),
    "set: key": (no_files, FINETUNE + " --set data.augmnt=none", "Did you mean 'augment'?"),
    "set: form": (no_files, FINETUNE + " --set data.augment", "expected KEY=VALUE"),
    "set: value": (no_files, FINETUNE + " --set head.dropout=2", "`head.dropout`"),
    "augment: policy": (no_files, FINETUNE + " --set data.augment=lite", "Did you mean 'light'?"),
    "augment: op": (
        no_files,
        FINETUNE + ' --set data.augment=[{op="HorizontalFlop"}]',
        "Did you mean 'HorizontalFlip'?",
    ),
    "augment: setting": (no_files, FINETUNE + ' --set data.augment=[{op="HorizontalFlip",q=1}]', "q"),
    "head: form": (no_files, FINETUNE + " --head my_heads", "expected module:function"),
    "head: module": (no_files, FINETUNE + " --head absent_heads:wide", "no module 'absent_heads'"),
    "head: function": (head_of_wrong_width, FINETUNE + " --head my_heads:wid", "no function 'wid'"),
    "head: width": (head_of_wrong_width, FINETUNE + " --head my_heads:wide", "(None, 2)"),
    "group-by: regex": (no_files, FINETUNE + " --group-by (", "--group-by"),
    "group-by: no match": (no_files, FINETUNE + " --group-by zebra", "--group-by"),
    "task: kind": (no_files, FINETUNE + " --task label=detection", "single_label"),
    "task: form": (no_files, FINETUNE + " --task label", "expected NAME=KIND"),
    "task: name": (no_files, [*FINETUNE.split(), "--task", "Eye colour=single_label"], "rename the column"),
    "evaluation: tta": (no_files, FINETUNE + " --set evaluation.tta=flop", "Did you mean 'flip'?"),
    "unfreeze": (no_files, FINETUNE + " --recipe ants_bees --set stages.0.unfreeze=9", "expected at most 7"),
    "loss: task": (no_files, FINETUNE + " --set loss.weights.lable=2", "Did you mean 'label'?"),
    "stages: none": (no_files, FINETUNE + " --set stages=[] --set head.init=zeros", 'or head.init = "probe"'),
    "stages: decay": (no_files, FINETUNE + " --recipe ants_bees --set stages.0.decay=2", "`stages.0.decay`"),
    "probe: no linear head": (no_files, FINETUNE + " --set stages=probe --set head.hidden=[4]", "at least one stage"),
    "lr-find: no data": (no_files, "lr-find default", "--data: missing"),
    "lr-find: stage": (no_files, "lr-find ants_bees --data photos --stage 3", "one of the 1 stages"),
    "lr-find: plot exists": (a_file, "lr-find default --data photos --out mine", "mine: exists already"),
    "lr-find: nowhere": (no_files, "lr-find default --data photos --out gone/lr.png", "gone"),
    "task: folder": (no_files, FINETUNE + " --task species=single_label", "species"),
    "folds": (no_files, FINETUNE + " --folds 1", "--folds"),
    "seed": (no_files, FINETUNE + " --seed x", "--seed"),
    "resume: no out": (no_files, "finetune --resume", "--out"),
    "resume: no run": (no_files, "finetune --resume --out mine", "mine: no such run folder"),
    "option": (no_files, "finetune --date photos", "--data"),
    "command": (no_files, "finetun --data photos", "Did you mean 'finetune'?"),
}

OTHER_MISTAKES = {
    "evaluate: no run": (no_files, "evaluate mine", "mine: no such run folder"),
    "evaluate: not a run": (no_files, "evaluate photos", "photos: not a run folder"),
    "evaluate: tta": (no_files, "evaluate {run} --tta flop", "Did you mean 'flip'?"),
    "evaluate: views file": (no_files, "evaluate {run} --tta gone.toml", "tta gone.toml: No such file or directory"),
    "evaluate: not toml": (broken_recipe, "evaluate {run} --tta mine.toml", "mine.toml: must be a TOML file"),
    "evaluate: no views": (views_file("views = []"), "evaluate {run} --tta mine.toml", "at least one table [[views]]"),
    "evaluate: view key": (
        views_file("[[views]]\n[[views]]\nmirrored = true"),
        "evaluate {run} --tta mine.toml",
        "`views.1`: unknown key `mirrored`. Did you mean 'mirror'?",
    ),
    "evaluate: average": (no_files, "evaluate {run} --tta flip --average mean", "--average"),
    "predict: tta": (no_files, "predict {run} photos --tta tencorp", "Did you mean 'tencrop'?"),
    "predict: view crop": (
        views_file('[[views]]\ncrop = "top-left"'),
        "predict {run} photos --tta mine.toml",
        "Did you mean 'top_left'?",
    ),
    "evaluate: data": (no_files, "evaluate {run} --data gone", "gone"),
    "evaluate: class": (one_class, "evaluate {run} --data .", "is unknown to the run"),
    "predict: no run": (no_files, "predict mine photos", "mine: no such run folder"),
    "predict: no image": (no_files, "predict {run}", "PATH"),
    "predict: missing": (no_files, "predict {run} gone.jpg", "gone.jpg: no such file or folder"),
    "predict: no photo": (a_file, "predict {run} mine", "mine: "),
    "predict: empty": (empty_folder, "predict {run} empty", "nothing to predict"),
    "predict: csv": (no_files, "predict {run} photos --csv gone/out.csv", "gone/out.csv: can't write"),
    "datasets: name": (no_files, "datasets mnits", "Did you mean 'mnist'?"),
    "recipes: name": (no_files, "recipes defualt", "Did you mean 'default'?"),
}

AUDIT_MISTAKES = {
    "no data": (no_files, "audit gone", "gone: no such file or folder"),
    "preview exists": (a_file_named_png, "audit photos --preview mine.png", "mine.png: exists already"),
    "preview is no png": (no_files, "audit photos --preview mine.jpg", "such as mine.png"),
    "preview nowhere": (no_files, "audit photos --preview gone/mine.png", "no such folder as gone"),
    "preview of folder": (no_files, "audit --preview photos", "Missing argument"),
    "policy": (no_files, "audit photos --preview --augment ligth", "Did you mean 'light'?"),
    "op": (no_files, "audit photos --preview --augment [{op=1}]", "`augment.0` must be a table"),
    "size": (no_files, "audit photos --preview --image-size 3", "--image-size"),
    "no preview": (no_files, "audit photos --image-size 64", "--image-size: only --preview needs it"),
}


@pytest.fixture
def here(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tlkit", *command])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def refuse(command, said, here, monkeypatch, capsys):
    before = {path for path in here.rglob("*") if "__pycache__" not in path.parts}
    status = run(command, monkeypatch)
    answer = capsys.readouterr()
    lines = [line for line in answer.err.splitlines() if line.startswith("tlkit: ")]
    assert status == 2, answer.err
    assert len(lines) == 1, answer.err
    assert lines[0] == answer.err.splitlines()[-1]
    assert said in lines[0]
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert {path for path in here.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.parametrize("mistake", TRAINING_MISTAKES)
def test_a_mistake_before_training_is_one_line(mistake, here, monkeypatch, capsys):
    prepare, command, said = TRAINING_MISTAKES[mistake]
    prepare(here)
    refuse(command if isinstance(command, list) else command.split(), said, here, monkeypatch, capsys)


@pytest.mark.parametrize("mistake", OTHER_MISTAKES)
def test_a_mistake_after_training_is_one_line(mistake, here, tiny_run, monkeypatch, capsys):
    prepare, command, said = OTHER_MISTAKES[mistake]
    prepare(here)
    refuse(command.format(run=tiny_run.path).split(), said, here, monkeypatch, capsys)


@pytest.mark.parametrize("mistake", AUDIT_MISTAKES)
def test_a_mistake_in_an_audit_is_one_line(mistake, here, monkeypatch, capsys):
    prepare, command, said = AUDIT_MISTAKES[mistake]
    prepare(here)
    refuse(command.split(), said, here, monkeypatch, capsys)


@pytest.mark.parametrize("prepare", [full_folder, a_file])
def test_nothing_the_user_had_is_overwritten(prepare, here, monkeypatch, capsys):
    prepare(here)
    refuse([*FINETUNE.split(), "--out", "mine"], "--out mine", here, monkeypatch, capsys)
    kept = here / "mine" / "thesis.txt" if (here / "mine").is_dir() else here / "mine"
    assert kept.read_text() == "keep me"


def test_a_finished_run_is_not_overwritten(here, tiny_run, monkeypatch, capsys):
    before = (tiny_run.path / "metrics.json").read_bytes()
    refuse([*FINETUNE.split(), "--out", str(tiny_run.path)], "add --resume", here, monkeypatch, capsys)
    assert (tiny_run.path / "metrics.json").read_bytes() == before


def test_an_incomplete_run_says_how_to_go_on(here, tiny_run, monkeypatch, capsys):
    shutil.copytree(tiny_run.path, here / "half")
    (here / "half" / "metrics.json").unlink()
    refuse(["evaluate", "half"], "--resume --out half", here, monkeypatch, capsys)


def test_resuming_with_another_recipe_is_refused(here, tiny_run, monkeypatch, capsys):
    refuse(
        f"finetune --resume --out {tiny_run.path} --seed 7".split(),
        "differs in seed (0 before, 7 now)",
        here,
        monkeypatch,
        capsys,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_line(here, tiny_run):
    script = "ulimit -f 40; exec " + shlex.join([sys.executable, "-m", "tlkit", *FINETUNE.split(), "--recipe", "quick"])
    answer = subprocess.run(["bash", "-c", script], cwd=here, capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    line = answer.stderr.splitlines()[-1]
    assert "model.keras: can't be written: File too large. Raise the limit on file sizes, then go on: tlkit fin" in line
    assert "--resume --out" in line
    assert "Traceback" not in answer.stderr


def test_tlkit_alone_prints_its_help(monkeypatch, capsys):
    assert run([], monkeypatch) == 0
    assert capsys.readouterr().out.startswith("Usage: tlkit")


def test_resuming_with_other_data_is_refused(here, tiny_run, monkeypatch, capsys):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(here / "photos" / "a" / "99.png")
    command = ["finetune", "--resume", "--out", str(tiny_run.path), "--data", "photos"]
    refuse(command, "the data changed", here, monkeypatch, capsys)


def test_weights_that_are_nowhere_name_the_file_and_the_way_out(here, monkeypatch, capsys):
    def unreachable(*_args, **_kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr("tlkit.models.weights.open_tls", unreachable)
    refuse(["finetune", "--data", "photos", "--backbone", "resnet50"], "efficientnet_lite0", here, monkeypatch, capsys)
