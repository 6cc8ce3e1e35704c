"""``trusted=True``: what it opens, who asks for it, and what export says of files that will need it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load
from explainable_model.cli.main import main
from explainable_model.errors import UntrustedArtifactError, UntrustedArtifactWarning
from tests.support.hostile import GOOD, rewrite
from tests.support.nets import images, seeded


class Odd(nn.Module):
    """A network with an operator that the check does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(torch.special.entr(image.abs() + 0.1))


@pytest.mark.parametrize("suffix", [".ts", ".pt2"])
def test_export_warns_of_a_file_that_load_will_refuse(suffix: str, tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Odd()), "layers.0")
    path = tmp_path / f"odd{suffix}"
    with pytest.warns(UntrustedArtifactWarning, match=rf"load\('odd{suffix}'\) will need trusted=True.*special_entr"):
        export(explainable, path, images(1, (3, 16, 16)))
    with pytest.raises(UntrustedArtifactError, match="special_entr"):
        load(path)
    image = images(2, (3, 16, 16), seed=5)
    assert np.abs(load(path, trusted=True)(image).cam - explainable(image).cam.numpy()).max() < 1e-4


def test_the_command_line_asks_for_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rewrite(GOOD / "before.ts", tmp_path / "more.ts", more={"extra/more": b"a second file"})
    assert main(["verify", str(path)]) == 2
    assert "it has the entry 'extra/more'" in capsys.readouterr().err
    assert main(["verify", str(path), "--trusted"]) == 0
    assert "It agrees with the recorded answer" in capsys.readouterr().out
    assert main(["inspect", str(path)]) == 0
