"""A network and an example of what it is given, as the search for layers runs it."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from explainable_model.attribution.calling import Caller, call_network
from explainable_model.attribution.inputs import predicted_class_idx
from explainable_model.attribution.prediction import Select
from explainable_model.attribution.targets import ClassScore, Scores, Target, score_output


@dataclass(frozen=True)
class Example:
    """A network, what it is given, and what of its output is explained."""

    model: nn.Module
    arguments: tuple[Tensor, ...]
    output: Select = None
    target: Target = field(default_factory=ClassScore)
    frames: int | None = None
    forward: Caller = None

    @property
    def image(self) -> Tensor:
        return self.arguments[0]

    def run(self, image: Tensor) -> Any:
        """What the network returns for the image."""
        inputs = self.arguments[1 : len(self.arguments) - self.target.inputs]
        return call_network(self.model, self.forward, image, inputs)

    def score(self, output: Any) -> Scores:
        """The scores of the predicted class."""
        extra = self.arguments[len(self.arguments) - self.target.inputs :]
        return score_output(
            self.target, output, self.output, predicted_class_idx(self.image, None), extra, self.image.shape
        )
