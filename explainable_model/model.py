"""The wrapper: any network in, its prediction and its class activation map out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack, cast

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from explainable_model.artifact.detecting import Detecting
from explainable_model.artifact.metadata import Profile
from explainable_model.attribution.boxes import BoxScore, read_detections
from explainable_model.attribution.explain import Attribution, attribute, explain, with_rounded_means
from explainable_model.attribution.frames import check_frames
from explainable_model.attribution.inputs import ClassIdx, as_class_idx, check_inputs
from explainable_model.attribution.network import DifferentiableNetwork
from explainable_model.attribution.plan import Plan, PlanArguments
from explainable_model.attribution.zero_maps import check_maps, quiet_placeholder
from explainable_model.detection.wrap import wrap_for_task
from explainable_model.eager import checks
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.custom_functions import check_derivative, named_functions
from explainable_model.eager.embedding import refuse_embedding
from explainable_model.eager.find_layer import planned_layer
from explainable_model.eager.hooked import HookedNetwork
from explainable_model.eager.layer_name import resolve_layers
from explainable_model.eager.moved_places import ConvolutionWatch, warn_of_moves
from explainable_model.eager.named_layers import check_layers
from explainable_model.eager.randomness import Randomness
from explainable_model.eager.reversal import ReversalCheck
from explainable_model.eager.signature import check_signature
from explainable_model.eager.tap import LayerTap
from explainable_model.errors import InputError
from explainable_model.explanation import BOX_METHOD, METHOD, Explanation
from explainable_model.lowering.backward.graph_cache import GraphCache
from explainable_model.lowering.eager_kind import find_output_kind
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.open_dims import check_profile, lower_with_open_dims
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.rules.check import check_lowerings
from explainable_model.methods import find_method
from explainable_model.methods.fusion import find_fusion
from explainable_model.progress import ProgressLike, as_progress


class ExplainableModel(nn.Module, Detecting[Tensor]):
    """Wraps a trained network so that one call returns its prediction and the map that explains it.

    A forward hook captures the activations ``A`` of the target layer and starts a new graph there, so
    ``torch.autograd.grad`` differentiates only the tail of the network: ``g = d score / d A``. The method turns ``A``
    and ``g`` into a map. The network itself is not changed.

    Args:
        model: the network, in evaluation mode. ``DataParallel`` and ``torch.compile`` are unwrapped.
        target_layer: name of a layer, the layer itself, several of them, or ``None`` for the last one with a spatial
            map that the prediction depends on (found with ``example``, or at the first call). Its output may be
            ``(N, K, h, w)``, ``(N, h, w, K)`` or tokens ``(N, T, K)`` of patches in rows.
        method: a key of ``METHODS``; ``None`` for ``gradcam``, or ``hirescam`` of boxes.
        target: ``None`` for a class, another of ``explainable_model.targets``, or ``score(output, class_idx) -> (N,)``.
        top_k: explain this many classes of each image at once; ``None`` for one.
        normalize: ``"minmax"`` scales each map to [0, 1] by its minimum and maximum; ``"max"`` divides by its largest
            absolute value, which leaves zero where it is; ``"none"`` or ``False``. The default (``True``) is
            ``"minmax"``, and ``"max"`` for signed maps.
        upsample: ``"bilinear"`` or ``True``, ``"bicubic"``, ``"nearest"``: how the map is resized to the image;
            ``"none"`` or ``False`` leaves it at layer resolution.
        signed: keep the evidence against the class instead of rectifying.
        shared_scale: normalize the maps of the ``top_k`` classes together instead of each by itself.
        size: spatial size of the maps, if not the image's.
        fusion: how the maps of several layers become one, a key of ``FUSIONS``.
        augment: average over six copies of the image: scaled by 1, 0.9 and 1.1, each also mirrored.
        smooth: average over so many noisy copies of the image; ``(copies, noise)`` for another noise than 0.15.
        options: of the method, e.g. ``{"samples": 16}`` for ``smoothgrad``.
        output: which part of the network's output is the prediction: a key or attribute, a position or
            a function; ``None`` finds it.
        call: which call of a layer of several: 0 is the first, -1 the last; ``None`` takes the last and warns.
        frames: the axis of the image's frames, 1 for ``(N, T, C, H, W)``: the map is ``(N, T, H, W)``.
        forward: how the network is called, if not as ``network(image, *inputs)``: the name of the parameter that takes
            the image (the others follow by position), the names of all, or a function ``(network, image, *inputs) ->
            output``, which may make a dictionary or a list of the image, or add and remove its batch.
        chunk_size: how many copies of an image are run at once, at most, by methods that need many; on a CPU fewer
            copies of a large image are run, for speed.
        progress: ``True`` for a bar, or a function of (``"copies"``, copies done, copies in all) or of the numbers.
        example: ``(N, C, H, W)``, an image that the network accepts; ``torch.jit.script`` needs it.
        task: ``"detection"`` for a detector, see ``explainable_model.detection``: the boxes and a map for each.
        reshape_transform: makes ``(N, K, *spatial)`` of an output of the layer whose shape does not tell its order.

    Raises:
        LayerError: the layer is not in the network, or no layer has a spatial map.
        ModelError: the network is in training mode, scripted, or holds inference tensors.
        ValueError: unknown method or option.

    Source: the default, Grad-CAM: Selvaraju et al. 2017, arXiv 1610.02391.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
        >>> explainable = ExplainableModel(network, target_layer="0", example=torch.ones(1, 3, 8, 8))
        >>> explainable(torch.ones(1, 3, 8, 8)).cam.shape
        torch.Size([1, 8, 8])
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
        method: str | None = None,
        *,
        fusion: str = "mean",
        progress: ProgressLike = None,
        example: Tensor | None = None,
        task: str | None = None,
        **arguments: Unpack[PlanArguments],
    ) -> None:
        super().__init__()
        row = find_method((METHOD if task is None else BOX_METHOD) if method is None else method)
        self.model, layer = wrap_for_task(task, checks.unwrap(model), target_layer, row, arguments)
        self.example, self.progress = example, as_progress(progress)
        self.training = self.model.training
        names = resolve_layers(self.model, layer) if row.needs_layer else ()
        self._plan = Plan.from_arguments(self.model, row, names, find_fusion(fusion), **arguments)
        self._taps: dict[str, LayerTap] = {}
        self._graphs, self._randomness, self._reversal = GraphCache(), Randomness(self.model), ReversalCheck()
        self._checked, self._watched = set[tuple[int, ...]](), set[tuple[int, ...]]()
        checks.refuse_training_mode(self.model)
        if example is not None:
            with torch.no_grad():
                self(example)  # an example that does not work should fail here, not at the export

    @property
    def plan(self) -> Plan:
        """What is explained and how. It names no layer until a call has found one."""
        return self._plan

    @property
    def method(self) -> str:
        """Key of ``METHODS``."""
        return self._plan.method.name

    @property
    def target_layer(self) -> str | None:
        """Name of the layer that is explained, the first of several; ``None`` until a call has found it."""
        return self._plan.layers[0] if self._plan.layers else None

    @property
    def target_layers(self) -> tuple[str, ...]:
        """Names of all layers that are explained."""
        return self._plan.layers

    def forward(self, image: Tensor, class_idx: ClassIdx = None, *inputs: Tensor) -> Explanation[Tensor]:
        """Predict and explain.

        Works under ``no_grad`` and ``inference_mode``, with frozen parameters, and from several threads at once.
        Values (finite image, range of ``class_idx``) are checked in host memory only: a GPU would stall.

        Args:
            image: ``(N, C, H, W)``, or one or three spatial dimensions; the network's dtype.
            class_idx: ``(N,)`` int64 (``(N, k)`` with ``top_k=k``), the classes to explain, or the ranks of boxes;
                ``-1`` in column j for the class predicted j-th; ``None`` stands for ``-1`` everywhere. A list or an
                array works too, and one number stands for every image.
            inputs: what else the network takes, then what the target takes; each with the batch first.

        Returns:
            ``Explanation(logits, class_idx, cam)``; of a detector ``DetectionExplanation(detections, cam)``.

        Raises:
            InputError: an image or class index that the network cannot take.
            LayerError: the target layer did not run or has no spatial map.
            ModelError: training mode, NaN logits, or the prediction does not depend on the layer.
        """
        watch, signed = ConvolutionWatch(image, self._watched), list[Tensor]()
        with torch.inference_mode(False), torch.no_grad():
            network, plan, image, class_idx, inputs = self._ready(image, class_idx, inputs)
            with checks.explained_shape_errors(self.model, image), self._randomness.refused(plan, image, inputs), watch:
                answer = Explanation(*explain(network, plan, image, class_idx, inputs, self.progress, signed))
            checks.refuse_nan(self.model, answer.logits)
            check_maps(plan, answer, signed)
            warn_of_moves(self.model, (image, *inputs), plan, watch)
            if isinstance(plan.target, BoxScore):
                return cast(Explanation[Tensor], read_detections(answer))
            refuse_embedding(self.model, plan, image, inputs, answer.logits)
        own = inputs[: len(inputs) - plan.target.inputs]
        return answer.with_kind(partial(find_output_kind, self.model, image, own, plan))

    if TYPE_CHECKING:  # for nn.Module, a call returns anything

        def __call__(self, image: Tensor, class_idx: ClassIdx = None, *inputs: Tensor) -> Explanation[Tensor]: ...

    def attribute(
        self, image: Tensor, class_idx: ClassIdx = None, *inputs: Tensor, layer: int | str = 0
    ) -> Attribution:
        """Return what the method works with, signed and by channel.

        Arguments and errors as ``forward``; ``layer`` is the position or the name of one of several target layers.
        Output and gradient of the layer, for the first class of each image, come as ``(N, K, *spatial)``; of a method
        that explains at the image, the image and its gradient.
        """
        with torch.inference_mode(False), torch.no_grad():
            network, plan, image, class_idx, inputs = self._ready(image, class_idx, inputs)
            with checks.explained_shape_errors(self.model, image), self._randomness.refused(plan, image, inputs):
                return attribute(network, plan, image, class_idx, inputs, layer)

    def prepare(self, image: Tensor, *inputs: Tensor) -> None:
        """Find the target layer, and capture the graph where the method needs one, before the first call.

        Arguments and errors as ``forward``.
        """
        with torch.inference_mode(False), torch.no_grad():
            self._ready(image, None, inputs)

    def _ready(
        self, image: Tensor, class_idx: ClassIdx, inputs: tuple[Tensor, ...]
    ) -> tuple[DifferentiableNetwork, Plan, Tensor, Tensor, tuple[Tensor, ...]]:
        checks.refuse_tracing(image)
        checks.refuse_training_mode(self.model, image, self._plan)
        checks.check_image_for(self.model, image)
        plan, classes = self._plan, as_class_idx(class_idx, image, self._plan.top_k)
        check_frames(image.shape, plan.frames)
        check_inputs(inputs, image.shape[0], plan.target.inputs)
        check_signature(self.model, plan.forward, len(inputs) - plan.target.inputs)
        image, *others = (each.clone() if each.is_inference() else each for each in (image, *inputs))  # autograd saves
        inputs = tuple(others)
        if plan.method.needs_layer and not plan.layers:
            with checks.explained_shape_errors(self.model, image):
                layer = planned_layer(self.model, plan, image, inputs)
            plan = self._plan = replace(plan, layers=(layer,))
        with checks.explained_shape_errors(self.model, image):
            check_layers(self.model, (image, *inputs), plan, self._checked)
        return self._network(plan, image, inputs), plan, image, classes, inputs

    def _network(self, plan: Plan, image: Tensor, inputs: tuple[Tensor, ...]) -> DifferentiableNetwork:
        if plan.method.needs_graph:
            return self._captured(plan, image, inputs)
        taps = [self._taps.setdefault(name, LayerTap()) for name in plan.named_taps]
        return HookedNetwork(self.model, plan, taps, self._reversal, partial(self._captured, plan))

    def _captured(self, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> DifferentiableNetwork:
        with self._randomness.refused(plan, image, inputs), named_functions(self.model, plan, image, inputs):
            return self._graphs.find(self.model, plan, image, inputs)

    def __prepare_scriptable__(self) -> nn.Module:
        """The lowered graph, which ``torch.jit.script`` compiles instead of this module."""
        from explainable_model.lowering.scriptable import scriptable

        if self.example is None:
            raise InputError("torch.jit.script needs an example image: ExplainableModel(model, ..., example=image).")
        return scriptable(lower(self, self.example))


def lower(
    explainable: ExplainableModel,
    image: Tensor,
    *inputs: Tensor,
    lowerings: Mapping[OpOverload, Lowering] | None = None,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    profile: Profile = "full",
) -> LoweredModel:
    """Differentiate the tail of the network ahead of time.

    The forward is exported once, cut at the target layer, and walked backwards from the score with one vector-Jacobian
    product per operator, each written in forward operations; batch norm is folded into the convolution before it. What
    comes out is a plain forward graph with an open batch size; for a network that takes one batch size only, or a
    different path for each, it is the example's, with a ``StaticBatchWarning``. The graph has no state: buffers that
    the network updates in its forward keep the values that they have now, and the network itself keeps them, too.

    Args:
        explainable: the network and what to explain of it.
        image: ``(N, C, *spatial)``, an example; its spatial size becomes the graph's.
        inputs: examples of what else the network and the target take.
        lowerings: rows that are added to, or replace, those of ``LOWERINGS``.
        dynamic_size: leave height and width open as well; ``LoweredModel.sizes`` says which are taken. Convolutional
            networks allow it, those with a table of positions do not; windowed transformers take minutes.
        dynamic_batch: leave the batch size open; ``False`` makes a graph for exactly as many images as ``image`` has.
        profile: ``portable`` keeps to the operators of strict runtimes (``lowering/passes/portable.py``), in float32
            and for the example's shape alone; ``full`` uses all that is fast.

    Raises:
        LoweringError: the network cannot be traced, an operator between layer and score has no lowering, the network
            takes one image size only, or a row of ``lowerings`` does not fit its operator.
        TypeError: a key of ``lowerings`` is no operator overload, or its rule is no function.
        InputError, LayerError, ModelError: as the eager call.
    """
    check_profile(profile, image, dynamic_size=dynamic_size)
    table = {**LOWERINGS, **check_lowerings(lowerings or {})}
    checks.check_image_for(explainable.model, image)
    with torch.no_grad(), restored_buffers(explainable.model), quiet_placeholder(image):
        wanted = explainable(image.clone(), None, *inputs)  # the eager call refuses a wrong request in its own words
        Randomness(explainable.model).refuse(explainable.plan, image, inputs)
        plan = with_rounded_means(*explainable._ready(image.clone(), None, inputs))
    example = tuple(tensor.detach() for tensor in (image, *inputs))
    request = explainable.model, plan, image, inputs
    dynamic_batch = checks.opens_batch(explainable.model, wanted=dynamic_batch and profile == "full")
    with named_functions(*request):
        lowered = lower_with_open_dims(
            explainable.model, plan, example, table, profile, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch
        )
    check_derivative(*request, wanted.cam, lowered)
    return lowered
