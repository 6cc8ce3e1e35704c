"""The errors a user can meet, each with what was got, what was expected and what to do next."""


class ExplainableModelError(Exception):
    """Base of every error that is this library's own."""


class LayerError(ExplainableModelError, ValueError):
    """The target layer does not exist, never runs, or has no spatial map."""


class InputError(ExplainableModelError, ValueError):
    """An image or a class index that the network or the artifact cannot take."""


class ModelError(ExplainableModelError, ValueError):
    """A network that cannot be explained as it is: training mode, no gradient path, unusable output."""


class LoweringError(ExplainableModelError, RuntimeError):
    """The network cannot be turned into a forward-only graph."""


class TraceError(LoweringError):
    """``torch.export`` cannot follow the network, perhaps only because a dimension was left open."""


class ExplainableModelWarning(UserWarning):
    """Base of every warning that is this library's own."""


class StaticBatchWarning(ExplainableModelWarning):
    """The network refuses an open batch size: what was made takes the example's batch size only."""


class ZeroMapWarning(ExplainableModelWarning):
    """A map is zero everywhere; the warning says why and what to try."""


class CancelledMapWarning(ExplainableModelWarning):
    """The products that make a map cancel at every position, and it shows what a normalization's epsilon leaves."""


class SaturationWarning(ExplainableModelWarning):
    """A probability rounds to one, and the gradient of what the network computes from it has lost its digits."""


class RepeatedLayerWarning(ExplainableModelWarning):
    """The target layer runs several times in one forward, and no call was chosen: the last one is explained."""


class DoubtfulPlacesWarning(ExplainableModelWarning):
    """Nothing shows that a layer's tokens follow the places of the image, or the network moves the image before it."""


class ShallowLayerWarning(ExplainableModelWarning):
    """The automatic choice is the patch embedding, for no later layer's output is known to be a grid."""


class OneNetworkWarning(ExplainableModelWarning):
    """The automatic choice lies in one of several networks side by side, and the map shows that one alone."""


class LowRangeWarning(ExplainableModelWarning):
    """A picture of 16 bits uses few of its values: it becomes nearly black, and the answer may not help."""


class FirstPageWarning(ExplainableModelWarning):
    """A picture has several pages or frames, and the first one is explained."""


class AgreementWarning(ExplainableModelWarning):
    """An artifact in less precision often predicts another class than the one in float32."""


class LeftoverWarning(ExplainableModelWarning):
    """What a killed process had left beside a file was removed."""


class ArtifactError(ExplainableModelError, ValueError):
    """A file that is missing, corrupt, foreign, of a newer schema, or cannot be written."""


class UntrustedArtifactError(ArtifactError):
    """A file that holds machine code, or more than the exporters write: it may be opened where its maker is trusted."""


class UntrustedArtifactWarning(ExplainableModelWarning):
    """An artifact that was just made holds an operator that ``load`` accepts with ``trusted=True`` only."""


class VerificationError(ExplainableModelError, RuntimeError):
    """An artifact that disagrees with the eager network."""


class MissingRuntimeError(ExplainableModelError, ImportError):
    """An optional runtime that the requested format needs is not installed."""


def first_line(error: BaseException) -> str:
    """The first line of what another library's error says, or the error's type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(error: BaseException) -> str:
    """The last line of what TorchScript's error says, where the reason stands, or the error's type."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def root_cause(error: BaseException) -> BaseException:
    """The error at the end of a chain of ``raise ... from ...``."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
