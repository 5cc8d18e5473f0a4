"""Small folders to train on, and runs that are over in a moment."""

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from helpers import picture
from PIL import Image

from masa.training.settings import Settings
from masa.training.trainer import Trainer


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Five pairs, each of a picture and the same one moved a little."""
    folder = tmp_path_factory.mktemp("pairs")
    for part, shift in (("input", 0), ("ref", 3)):
        (folder / part).mkdir()
        for k in range(5):
            smooth = Image.fromarray(picture(6, 7, k)).resize((56, 48), Image.Resampling.BICUBIC)
            moved = np.roll(np.array(smooth), shift, axis=1)
            Image.fromarray(moved).save(folder / part / f"{k}.png")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Two scenes like CUFED5's."""
    folder = tmp_path_factory.mktemp("scenes")
    for k in range(2):
        Image.fromarray(picture(48, 64, 10 + k)).save(folder / f"00{k}_0.png")
        Image.fromarray(picture(48, 48, 20 + k)).save(folder / f"00{k}_1.png")
    return folder


@pytest.fixture
def settings(pairs, tmp_path):
    """A run of six steps of a narrow network on small crops."""
    return Settings(
        data=str(pairs),
        out=str(tmp_path / "run"),
        config={"channels": 4},
        crop=32,
        batch=2,
        steps=6,
        warmup=2,
        log_steps=1,
        device="cpu",
        precision="fp32",
    )


@pytest.fixture
def stop_after(monkeypatch):
    """Has training interrupted after a given step, in a given way."""
    advance = Trainer.advance

    def set_up(step, how=Trainer.stop):
        def patched(self, batch):
            parts = advance(self, batch)
            if self.step == step:
                how(self)
            return parts

        monkeypatch.setattr(Trainer, "advance", patched)

    return set_up


@pytest.fixture
def fresh_accelerate():
    """Accelerate remembers one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
