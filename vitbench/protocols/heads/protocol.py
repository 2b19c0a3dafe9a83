"""What `linear_probe` and `attentive_probe` share: the options that override a recipe, the cost, and the departures.

Annotations are evaluated here, as the options of protocols in other files inherit them.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vitbench.api import Adaptation, Adapted, Effort, Protocol, Split
from vitbench.core.job import Job, PreprocessName
from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import ScoreKind
from vitbench.protocols.heads.recipe import HeadRecipe, Input, Kind, named_heads, recipe_of
from vitbench.protocols.recipe import NotNegative, Positive, Rate

if TYPE_CHECKING:
    from vitbench.protocols.heads import probe
else:
    probe = lazy_module("vitbench.protocols.heads.probe")


@dataclass(frozen=True)
class HeadProtocol(Protocol):
    """A protocol that trains heads on a frozen backbone; subclasses say which kind, and which recipes."""

    default_preprocess: ClassVar[PreprocessName] = "dinov2_knn"  # 256 for 224, bicubic: all three references
    score_kind: ClassVar[ScoreKind] = "logits"
    kind: ClassVar[Kind]
    reads: ClassVar[tuple[str, ...]]  # what inputs of this kind begin with

    recipe: str
    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Positive | None = None
    base_lr: Rate | tuple[Rate, ...] | None = None
    weight_decay: NotNegative | tuple[NotNegative, ...] | None = None
    optimiser: Literal["sgd", "lars", "adamw"] | None = None
    inputs: Input | tuple[Input, ...] | None = None
    flip: bool | None = None
    batch_norm: Annotated[int, Field(ge=0)] | None = None

    def __post_init__(self) -> None:
        """Check the recipe with the suite's overrides.

        Raises:
            ValueError: fields are inconsistent, or heads of this kind do not read an input.
        """
        wrong = [name for name in self._recipe().inputs if not name.startswith(self.reads)]
        if wrong:
            raise ValueError(f"inputs: {wrong[0]!r} is not one of {', '.join(self.reads)}")

    def depends_on_seed(self, budget: str) -> bool:
        """Return True: heads start at random, and images come in random order."""
        del budget
        return True

    def departures(self, job: Job) -> tuple[str, ...]:
        """How the recipe departs from its source, what the suite changes of it, or other preprocessing."""
        found = [*self.other_preprocess(job), *named_heads()[self.recipe]["departs"]]
        if changed := self._changes():
            found.append(f"the suite states {', '.join(changed)}")
        if job.resolution_px is not None and job.resolution_px != self._recipe().size_px:
            found.append(f"images of {job.resolution_px} px")
        return tuple(found)

    def effort(self, train: Split, val: Split, task: str, params: int, resolution_px: int | None) -> Effort:
        """Return one forward pass of every training image shown, and of validation where there is a choice."""
        del task, params
        recipe = self._recipe()
        chooses = len(recipe.points()) > 1 and len(val) > 0
        known = recipe.for_examples(len(train) + (0 if chooses else len(val)))
        shown = known.steps * known.batch_size + (len(val) if chooses else 0)
        return Effort(shown, 0, resolution_px or recipe.size_px)

    def warm_up(self, device: str) -> None:
        """Import the trainer, which takes seconds."""
        from vitbench.protocols.heads import trainer

        del device, trainer

    def adapt(self, data: Adaptation) -> Adapted:
        """Train all heads of the grid at once, and return the one that is best on validation."""
        return probe.adapt(data, self._recipe(), self.kind)

    def _recipe(self) -> HeadRecipe:
        return recipe_of(self.recipe, self._changes())

    def _changes(self) -> dict[str, Any]:
        """The suite's overrides of the recipe's fields."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "recipe"}
        return {name: value for name, value in given.items() if value is not None}
