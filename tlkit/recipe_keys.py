"""Every key of a recipe: its type, its default, what it means."""

import shlex
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tlkit.catalog import BUILDABLE, NETS
from tlkit.errors import did_you_mean, shown
from tlkit.tasks import KINDS, NAME


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


def _refuse_one(count):
    if count == 1:
        raise ValueError("must be 0, or at least 2. Received: 1")
    return count


_NoneOrSeveral = Annotated[int, AfterValidator(_refuse_one)]


class DataTable(_Table):
    """How images become batches."""

    image_size: Annotated[int, Field(ge=16, le=4096)] | Literal["auto"] = Field(
        "auto", description="Side of the square that the network sees, in pixels; auto: what the backbone was made for."
    )
    batch_size: int = Field(32, ge=1, le=65536, description="Images in a training batch.")
    fit: Literal["crop", "squash", "letterbox", "auto"] = Field(
        "auto",
        description="How an image becomes a square for evaluation: centre crop, squash, or pad; auto: crop, but squash "
        "where a task is multilabel or regression, whose labels are of the whole image.",
    )
    augment: str | list[dict[str, Any]] = Field(
        "auto",
        description="Training views: the name of a policy, or a list of ops with their settings; auto: light, but "
        "mirror where a task is multilabel or regression.",
    )
    # Measured with the default recipe, seeds 0 to 2: one, two, four, eight and fresh views give 0.756, 0.772, 0.772,
    # 0.768, 0.764 on garments (three folds), 0.943, 0.946, 0.948, 0.941, 0.943 on ants and bees. From two on, no
    # difference from fresh ones is to be told from chance.
    views: int = Field(
        2,
        ge=0,
        le=100_000,
        description="Training views of each image while layers are frozen, in turn; 0: a fresh one every epoch.",
    )
    view_seed: Annotated[int, Field(ge=0, lt=2**32)] | Literal["auto"] = Field(
        "auto", description="Seed of the training views; auto: seed. Runs that share it share the views' features."
    )
    mixup: float = Field(0.0, ge=0, description="Alpha of mixup's beta distribution; 0: off.")
    cutmix: float = Field(
        0.0, ge=0, description="Alpha of CutMix's beta distribution; 0: off. With mixup, each batch takes one of them."
    )
    mix_off: float = Field(
        0.25, ge=0, le=1, description="Share of a stage's epochs, its last ones, without mixup and CutMix."
    )
    group_by: str = Field(
        "", description="Regular expression on the path; images whose first group (or match) is equal share a split."
    )
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | Literal["auto"] = Field(
        "auto", description="Seed of the splits that tlkit makes; auto: the recipe's."
    )
    folds: _NoneOrSeveral = Field(0, ge=0, le=100, description="Cross-validate with so many folds; 0: one split.")


class BackboneTable(_Table):
    """The pretrained network."""

    name: str = Field("efficientnet_lite0", description="One of `tlkit backbones`, or of `tlkit nets`.")
    weights: str = Field("imagenet", description="imagenet, none, a weights file, or the folder of an earlier run.")

    @field_validator("name")
    @classmethod
    def _known(cls, name):
        if name not in BUILDABLE:
            hint = did_you_mean(name, BUILDABLE)
            raise ValueError(
                f"must be a known backbone or net. Received: {shown(name)}.{hint} "
                "`tlkit backbones` and `tlkit nets` list them."
            )
        return name


class HeadTable(_Table):
    """What turns the backbone's features into logits."""

    pooling: Literal["avg", "max", "avg+max", "gem"] = "avg"
    dropout: float = Field(0.2, ge=0, lt=1, description="Fraction of the pooled features dropped in training.")
    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [], max_length=100, description="Widths of hidden layers."
    )
    logits: Literal["linear", "cosine"] = Field(
        "linear", description="Last layer: linear, or the scaled cosine between features and class vectors."
    )
    init: Literal["probe", "random", "zeros"] = Field(
        "probe",
        description="How the last layer begins; probe: as a regularized linear model of the features, which is also "
        "the floor that training has to beat. Heads that are not linear begin at random instead.",
    )
    l1: float = Field(0.0, ge=0, description="Weight of the kernels' L1 penalty.")
    l2: float = Field(0.0, ge=0, description="Weight of the kernels' L2 penalty.")
    max_norm: float = Field(0.0, ge=0, description="Largest norm of a unit's incoming weights; 0: unlimited.")
    original: bool = Field(
        False, description="The top of the net's paper, in place of the keys above; for the nets of `tlkit nets`."
    )
    custom: str = Field("", description="module:function from features to logits, in place of the keys above.")

    @property
    def as_option(self):
        """What a command line that goes on with this head needs: ` --head module:function`, or nothing."""
        return f" --head {shlex.quote(self.custom)}" if ":" in self.custom else ""

    @model_validator(mode="after")
    def _nothing_idle(self):
        idle = ("l1", "l2", "max_norm") if self.logits == "cosine" and not self.hidden else ()
        if self.custom or self.original:
            idle = [name for name in type(self).model_fields if name not in {"custom", "original", "init"}]
        if self.custom and self.original:
            raise ValueError("`custom` and `original` name two heads; leave one out")
        if self.original and self.init == "zeros":
            raise ValueError("`init` of zeros does nothing for the net's original head; take random")
        for name in idle:
            if getattr(self, name) != type(self).model_fields[name].default:
                what = "a cosine head without hidden layers"
                what = "a custom head" if self.custom else "the net's original head" if self.original else what
                raise ValueError(f"`{name}` does nothing for {what}; leave it out")
        return self


class LossTable(_Table):
    """What training makes small."""

    weights: dict[str, Annotated[float, Field(ge=0)]] | Literal["uncertainty"] = Field(
        {}, description="Weight (lambda) of each task's loss, 1 where none is given; uncertainty: learned."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    imbalance: Literal["auto", "none", "class_weights", "balanced_sampling", "focal"] = Field(
        "auto",
        description="What is done about classes with few images; auto: class weights from ten to one on, else nothing.",
    )
    focal_gamma: float = Field(2.0, ge=0, description="How strongly the focal loss neglects what is right already.")


class Split(_Table):
    """From when on batches are computed in parts, since they don't fit into memory whole."""

    what: Literal["training", "frozen"] = Field(
        description="training: the layers that train in a stage, their gradients added up over the parts; frozen: "
        "layers in inference mode, from there on."
    )
    stage: int = Field(ge=-1, description="Stage, from 0; -1: the probe; the number of stages: the evaluation.")
    step: int = Field(0, ge=0, description="Step of that stage, from 0.")
    parts: int = Field(ge=1, description="Parts of a full batch.")


class TrainingTable(_Table):
    """What holds for all stages."""

    batch_norm: Literal["frozen", "train", "recalibrate"] = Field(
        "frozen",
        description="The backbone's BatchNorm where its block trains: in inference mode; training; or in inference "
        "mode with statistics estimated anew from the training images when the stage begins.",
    )
    l1: float = Field(0.0, ge=0, description="Weight of the L1 penalty on all kernels that train.")
    l2: float = Field(0.0, ge=0, description="Weight of the L2 penalty on all kernels that train.")
    l2_sp: float = Field(
        0.0, ge=0, description="Weight of half the squared distance of unfrozen layers from their pretrained values."
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of the moving average of the weights that is validated and kept; 0: off."
    )
    average_best: _NoneOrSeveral = Field(
        0, ge=0, le=100, description="Average so many of a stage's best epochs if that validates better; 0: off."
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="What unfrozen layers compute in while they train; auto: what is measured to be faster."
    )
    monitor: Literal["loss", "accuracy"] = Field(
        "loss",
        description="Validation figure that chooses the best epoch: the weighted sum of the tasks' losses, or the "
        "mean of their accuracies.",
    )
    patience: int = Field(0, ge=0, description="Epochs without improvement that end a stage; 0: never.")
    cache: Literal["auto", "ram", "disk", "off"] = Field(
        "auto", description="Where the frozen layers' features are kept; results don't depend on it."
    )
    splits: list[Split] | Literal["auto"] = Field(
        "auto",
        description="When batches are computed in parts that fit into memory; auto: as predicted before the run, and "
        "from where memory runs out. A run writes here what it did, so that its recipe repeats it.",
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="Longest stretch of work that a kill can cost.")


class EvaluationTable(_Table):
    """What is made of the probabilities once training is over, and what is measured besides the figures."""

    calibration: Literal["temperature", "none"] = Field(
        "temperature",
        description="temperature: logits are divided by a number fitted on the validation images, if that helps; it "
        "becomes part of the model.",
    )
    conformal: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="How often a conformal set of classes may miss the true one, e.g. 0.1; 0: no such sets.",
    )
    tta: Literal["auto", "none", "flip", "fivecrop", "tencrop", "multiscale", "rotations", "dihedral"] = Field(
        "auto",
        description="Test-time views whose worth is measured; the headline is that of one view all the same. auto: "
        "flip up to 2,000 images, else none.",
    )


class Stage(_Table):
    """One period of training."""

    unfreeze: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0, description="Blocks that train besides the head, counted from the head down."
    )
    epochs: int = Field(ge=1, le=1_000_000, description="Passes over the training images.")
    learning_rate: float = Field(gt=0, lt=10)
    block_factor: float = Field(
        1.0, gt=0, le=1, description="Learning rate of each block as a share of that of the block above it."
    )
    schedule: Literal["constant", "cosine", "step", "exponential", "plateau"] = Field(
        "cosine",
        description="Cosine falls to zero over the stage; step and exponential fall by a factor every so many epochs; "
        "plateau after so many epochs in which validation got no better.",
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the stage's steps in which the rate rises from zero.")
    decay: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="Factor of the schedule; auto: step and plateau 0.1, exponential 0.96."
    )
    decay_epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Epochs of the schedule; auto: step a third of the stage, exponential 8, plateau 3."
    )
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = Field(
        "adam", description="sgd has Nesterov's momentum of 0.9."
    )
    weight_decay: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        "auto", description="Decoupled decay of kernels, as a share of the rate; auto: adamw 0.004, else none."
    )
    clip_norm: float = Field(0.0, ge=0, description="Largest norm of a step's gradient (of each block's); 0: any.")
    accumulate: int = Field(1, ge=1, le=65536, description="Batches whose gradients make one step.")
    image_size: Annotated[int, Field(ge=16, le=4096)] | Literal["full"] = Field(
        "full", description="Side of the training views in this stage; full: data.image_size, which always evaluates."
    )
    stop_after: Annotated[int, Field(ge=0)] | Literal["never"] = Field(
        "never",
        description="Epochs after which the stage ends although its schedule has more. A run whose time was up writes "
        "it here, so that its recipe repeats it.",
    )

    @property
    def trained_epochs(self):
        """How many of its epochs are trained."""
        return self.epochs if self.stop_after == "never" else min(self.epochs, self.stop_after)


class Span(_Table):
    """A range of numbers to search: whole ones, if both ends are."""

    min: int | float = Field(description="The smallest value.")
    max: int | float = Field(description="The largest value.")
    log: bool = Field(False, description="Whether each factor is as likely as any other, as for learning rates.")

    @model_validator(mode="after")
    def _in_order(self):
        if not self.min < self.max:
            raise ValueError(f"max must be above min. Received: {self.min} to {self.max}")
        if self.log and self.min <= 0:
            raise ValueError(f"log needs a min above 0. Received: {self.min}")
        return self


def _flattened(table, prefix=""):
    """Yield dotted key and value of nested tables, down to the ranges."""
    for key, value in table.items():
        if isinstance(value, dict) and not {"min", "max"} & set(value):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Recipe(_Table):
    """Everything that decides how a model is trained; two equal resolved recipes give equal bits on equal data."""

    seed: int = Field(0, ge=0, lt=2**32)
    tasks: dict[str, str] = Field(
        {"label": "auto"},
        description="Label columns and their kinds: single_label, multilabel or regression; auto: single_label, "
        "unless the column looks like something else, which is refused.",
    )
    data: DataTable = DataTable()
    backbone: BackboneTable = BackboneTable()
    head: HeadTable = HeadTable()
    loss: LossTable = LossTable()
    training: TrainingTable = TrainingTable()
    evaluation: EvaluationTable = EvaluationTable()
    stages: list[Stage] | Literal["auto", "probe", "head", "gradual", "discriminative", "all"] = Field(
        "auto",
        description="The stages, or how they are chosen: auto, by the number of images; probe: none, the linear probe "
        "is all; head: the head alone; gradual: one block more a stage; discriminative: the head, then all blocks, the "
        "lower the slower; all: all blocks from the start.",
    )

    tune: dict[str, Span | Annotated[list[Any], Field(min_length=1, max_length=1000)]] = Field(
        {},
        description="For `tlkit tune`: recipe keys, and for each the values to choose from, or {min, max, log}. It "
        "decides nothing else.",
    )

    @field_validator("tune", mode="before")
    @classmethod
    def _flat(cls, tune):
        """Take `head.dropout = ...` for `"head.dropout" = ...`: TOML nests the former."""
        return dict(_flattened(tune)) if isinstance(tune, dict) else tune

    @model_validator(mode="after")
    def _has_a_top(self):
        if self.head.original and self.backbone.name not in NETS:
            raise ValueError(
                f"`head.original` needs a net of `tlkit nets`: {self.backbone.name} comes without its top. Leave it out"
            )
        return self

    @field_validator("tasks")
    @classmethod
    def _known_kinds(cls, tasks):
        if not tasks:
            raise ValueError("needs at least one task")
        for name, kind in tasks.items():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"a task is named with letters, digits, `_`, `.` and `-`; rename the column. Received: {name!r}"
                )
            if kind not in (*KINDS, "auto"):
                hint = did_you_mean(kind, KINDS)
                raise ValueError(f"{name!r} must be one of {', '.join(KINDS)}. Received: {shown(kind)}.{hint}")
        return tasks

    @field_validator("stages")
    @classmethod
    def _at_least_one(cls, stages, info):
        head = info.data.get("head")
        if stages in ([], "probe") and head is not None and head.init != "probe":
            raise ValueError('needs at least one stage, or head.init = "probe"')
        return stages

    def to_toml(self):
        """Return the recipe as a TOML document that `read_recipe` reads back to an equal recipe."""
        return tomli_w.dumps(self.model_dump(mode="python", exclude=None if self.tune else {"tune"}))
