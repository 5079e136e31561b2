"""Faults planted into real photos, and how many of them `tlkit audit` finds.

    python tests/benchmarks/planted_faults.py garments [DIR] [--seeds 0 1 2] [--out OUT]
    python tests/benchmarks/planted_faults.py cifar10 [--seeds 0 1 2] [--out OUT]

Garments: a copy of `clothing` (or DIR, a folder of class folders) in the split that tlkit makes, with 20 copies of
training photos in val and test (5 identical, 5 as JPEG of another quality, 5 of another size, 5 mirrored), 15 labels
exchanged for others and 5 pictures of other things. cifar10: 2,000 photos of which 5 % get another label.

For each seed: recall of what was planted, precision where only what was planted counts as right, and in OUT a contact
sheet of all other findings with their list, to be judged by eye.
"""

import argparse
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets import data_folder, lay_out_cifar10

COPIES = ("identical", "re-encoded", "resized", "mirrored")
PER_COPY, EXCHANGED, OUTLIERS = 5, 15, 5
CIFAR_IMAGES, CIFAR_NOISE = 2000, 0.05
CELL, COLUMNS = 180, 6


def main():
    options = _options()
    for seed in options.seeds:
        root = Path(options.out) / f"{options.what}_{seed}"
        shutil.rmtree(root, ignore_errors=True)
        photos = root / "photos"
        plant = plant_garments if options.what == "garments" else plant_cifar
        planted = plant(Path(options.data), photos, seed)
        report(photos, planted, root, seed)


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["garments", "cifar10"])
    parser.add_argument("data", nargs="?", default=str(data_folder() / "clothing"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", default="planted_faults")
    return parser.parse_args()


def plant_garments(source, photos, seed):
    """Lay out photos with faults in `photos/{train,val,test}/<class>/`; return a dict of path to what was planted."""
    from tlkit.api import load_data

    chance = random.Random(seed)
    data = load_data(source, seed=seed)
    for path, split in zip(data.paths, data.split, strict=True):
        target = photos / split / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data.root / path, target)
    originals = sorted(path.relative_to(photos) for path in photos.rglob("*.*"))
    training = [path for path in originals if path.parts[0] == "train"]
    chosen = chance.sample(training, PER_COPY * len(COPIES))
    planted = {}
    for number, path in enumerate(chosen):
        what = COPIES[number // PER_COPY]
        copy = Path(chance.choice(["val", "test"]), path.parts[1], f"planted_{number:02}.jpg")
        _write_copy(photos / path, photos / copy, what, chance)
        planted[copy.as_posix()] = (what, path.as_posix())
    planted |= _exchange_labels(photos, [path for path in originals if path not in chosen], EXCHANGED, chance)
    for number, (stranger, of) in enumerate(_strangers(chance)):
        split, label = (
            chance.choice(["train", "val", "test"]),
            chance.choice(sorted({path.parts[1] for path in originals})),
        )
        target = Path(split, label, f"stranger_{number}{stranger.suffix}")
        shutil.copyfile(stranger, photos / target)
        planted[target.as_posix()] = ("outlier", of)
    return planted


def _write_copy(source, target, what, chance):
    if what == "identical":
        shutil.copyfile(source, target)
        return
    with Image.open(source) as image:
        image = image.convert("RGB")
        if what == "resized":
            share = chance.uniform(0.4, 0.8)
            image = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)
        if what == "mirrored":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.save(target, quality=chance.randint(30, 70) if what == "re-encoded" else 92)


def _exchange_labels(photos, candidates, count, chance):
    classes = sorted({path.parts[-2] for path in candidates})
    planted = {}
    for path in chance.sample(candidates, count):
        other = chance.choice([name for name in classes if name != path.parts[-2]])
        moved = Path(*path.parts[:-2], other, path.name)
        (photos / path).rename(photos / moved)
        planted[moved.as_posix()] = ("label", path.parts[-2])
    return planted


def _strangers(chance):
    """Return five pictures of other things: cells, horses and insects."""
    folder = data_folder()
    kinds = {"cells": "bccd/images/*", "horses": "weizmann/rgb/*", "insects": "hymenoptera/train/*/*"}
    chosen = ["cells", "cells", "horses", "horses", "insects"]
    return [(chance.choice(sorted(folder.glob(kinds[kind]))), kind) for kind in chosen]


def plant_cifar(_, photos, seed):
    """Lay out photos of CIFAR-10 with label noise; return a dict of path to what was planted."""
    lay_out_cifar10(CIFAR_IMAGES, photos, seed)
    chance = random.Random(seed)
    originals = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    return _exchange_labels(photos, originals, round(CIFAR_NOISE * len(originals)), chance)


def report(photos, planted, root, seed):
    """Audit the photos, print the tables, and draw what was found that wasn't planted."""
    from tlkit import audit

    found = audit(photos)
    related = {}
    for finding in found.findings:
        pair = [finding["path"], finding.get("other")]
        related.setdefault(finding.get("kind"), []).append((finding, pair))
    print(f"\nseed {seed}: {len(found.data):,} images, {len(found.findings)} findings {found.counts()}\n")
    print("| planted | found as | planted | found | recall |\n|---|---|---|---|---|")
    right = set()
    for what in dict.fromkeys(of for of, _ in planted.values()):
        kinds = {"label": ("label_error",), "outlier": ("outlier",)}.get(what, ("leak",))
        names = [path for path, (of, _) in planted.items() if of == what]
        hits = [name for name in names if _hits(name, planted[name], kinds, related, right)]
        print(f"| {what} | {', '.join(kinds)} | {len(names)} | {len(hits)} | {len(hits) / len(names):.2f} |")
    print("\n| kind of finding | findings | planted | precision, planted alone counting | of the surest half |")
    print("|---" * 5 + "|")
    rest = []
    for kind, of_kind in related.items():
        good = [id(finding) in right for finding, _ in of_kind]
        rest += [finding for finding, _ in of_kind if id(finding) not in right]
        surest = good[: -(-len(good) // 2)]  # the audit lists them in that order
        print(f"| {kind} | {len(good)} | {sum(good)} | {np.mean(good):.2f} | {np.mean(surest):.2f} |")
    _draw(photos, [finding for finding in rest if finding["path"] != "."], root)


def _hits(name, planting, kinds, related, right):
    """Tell whether something planted was found; note the findings that say so."""
    hits = []
    for kind in kinds:
        for finding, pair in related.get(kind, ()):
            if name in pair and (planting[0] in ("label", "outlier") or planting[1] in pair):
                hits.append(finding)
    right.update(map(id, hits))
    return bool(hits)


def _draw(photos, findings, root):
    """Write the list of findings that weren't planted, numbered, and sheets of their pictures."""
    lines = [f"{n}\t{f.get('kind')}\t{f.get('score')}\t{f['path']}\t{f['problem']}" for n, f in enumerate(findings)]
    (root / "not_planted.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    cells = []
    for number, finding in enumerate(findings):
        names = [name for name in (finding["path"], finding.get("other")) if name and (photos / name).is_file()]
        side = CELL // max(1, len(names))
        cell = np.full((CELL + 34, CELL, 3), 255, np.uint8)
        for place, name in enumerate(names):
            with Image.open(photos / name) as image:
                small = image.convert("RGB")
                small = small.resize((side, CELL if len(names) == 1 else side))
            cell[: small.height, place * side : (place + 1) * side] = np.asarray(small)
        words = finding["problem"].replace("labelled ", "").replace(", but looks like", " ->")
        for row, text in enumerate((f"{number} {finding.get('kind')} {finding.get('score')}", words[:30])):
            cv2.putText(
                cell, text, (2, CELL + 12 + 15 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA
            )
        cells.append(cell)
    for sheet in range(0, len(cells), COLUMNS * 5):
        part = cells[sheet : sheet + COLUMNS * 5]
        part += [np.full_like(part[0], 255)] * (-len(part) % COLUMNS)
        rows = [np.concatenate(part[start : start + COLUMNS], axis=1) for start in range(0, len(part), COLUMNS)]
        Image.fromarray(np.concatenate(rows)).save(root / f"not_planted_{sheet // (COLUMNS * 5)}.png")


if __name__ == "__main__":
    main()
