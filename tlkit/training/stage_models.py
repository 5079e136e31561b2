"""Which model a stage trains, which of its variables change, and what trains them."""

from tlkit.models.assemble import cut, variables_by_block
from tlkit.models.resized import resized
from tlkit.training.losses import Anchor
from tlkit.training.stage import StageTrainer, unfrozen_blocks
from tlkit.training.variables import values_of


class StageModels:
    """The model that ships, and its likes for the image sizes of some stages.

    Args:
        model: The one that ships.
        stages: List of resolved `Stage`.
        ends: Names of the model's block ends, from the image to the head.
        tasks: Dict of task name to `Task`.
        steps_per_epoch: Number of batches in an epoch.
        craft: `Craft`.
        auxiliaries: Function from a model to the classifiers beside it, as `StageTrainer` takes them; or None.

    Raises:
        RecipeError: If the network can't have a stage's image size.
    """

    def __init__(self, model, stages, *, ends, tasks, steps_per_epoch, craft, auxiliaries=None):
        self._model, self._ends, self._tasks, self._craft = model, ends, tasks, craft
        self._steps_per_epoch, self._auxiliaries = steps_per_epoch, auxiliaries
        self._depths = [unfrozen_blocks(stage, ends) for stage in stages]
        self._sizes = [stage.image_size for stage in stages]
        self._variables, self._resized, self._beside, self._pretrained = {}, {}, {}, None
        for number in range(len(stages)):
            self.trained(number)
        if craft.l2_sp:
            self._pretrained = [values_of(block) for block in variables_by_block(model, ends)[1:]]

    def trained(self, number):
        """Return the model that a stage trains: the one that ships, or its like for another image size."""
        size = self._sizes[number]
        if size in ("full", self._model.input_shape[1]):
            return self._model
        if size not in self._resized:
            self._resized[size] = resized(self._model, size)
        return self._resized[size]

    def tracked(self, number, model=None):
        """Return the variables that stages 0 to `number` may have changed: those above the deepest cut among them.

        Args:
            number: The stage.
            model: Whose variables: the one that ships, or, for None, the one that the stage trains.
        """
        model = self.trained(number) if model is None else model
        depth = max(self._depths[: number + 1], default=0)
        if (depth, id(model)) not in self._variables:
            _, suffix = cut(model, self._ends, depth, self._tasks)
            self._variables[depth, id(model)] = suffix.variables
        return self._variables[depth, id(model)]

    def trainer(self, model, stage, rows, log_variances):
        """Return the `StageTrainer` of a model.

        Args:
            model: The one that ships, or what `trained` returns.
            stage: `Stage`.
            rows: Images that are computed at once.
            log_variances: Learned weights of the tasks' losses so far.
        """
        anchor = None
        if self._pretrained is not None:
            blocks = zip(variables_by_block(model, self._ends)[1:], self._pretrained, strict=True)
            pairs = [pair for block in blocks for pair in zip(*block, strict=True)]
            anchor = Anchor(*zip(*pairs, strict=True), weight=self._craft.l2_sp)
        return StageTrainer(
            model,
            stage,
            ends=self._ends,
            tasks=self._tasks,
            steps_per_epoch=self._steps_per_epoch,
            craft=self._craft,
            anchor=anchor,
            log_variances=log_variances,
            validated=self._model,
            auxiliaries=self._auxiliaries_of if self._auxiliaries else None,
            rows=rows,
        )

    def _auxiliaries_of(self, model):
        """Return the classifiers beside a model, the same ones in every stage: a later one goes on with them."""
        if id(model) not in self._beside:
            self._beside[id(model)] = self._auxiliaries(model)
        return self._beside[id(model)]
