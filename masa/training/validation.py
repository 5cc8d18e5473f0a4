"""Validation: scenes measured on the way, shared out among the processes of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate import Accelerator
from accelerate.utils import gather_object

from masa.errors import UserError
from masa.measuring.evaluate import SceneScores, evaluate, mean_scores, predictor_upscale
from masa.measuring.scenes import Scene
from masa.network.model import MASA
from masa.pictures.degradation import CLEAN, PRESETS, Degrade
from masa.predictor import Predictor

PICTURES = 3
"""Scenes whose pictures are kept, for TensorBoard."""


class _StoppedError(Exception):
    """Ends a validation early."""


class Validation:
    """Measures a network on scenes, of which every process takes its share."""

    def __init__(
        self, scenes: Sequence[Scene], degrade: Degrade, accelerator: Accelerator, precision: str
    ) -> None:
        """LRs are clean, or degraded by the presets in turn, as those that are trained on."""
        self.scenes = scenes
        self._degradations = [CLEAN] if degrade == "off" else list(PRESETS.values())
        self._accelerator, self._precision = accelerator, precision

    def scores(self, model: MASA, stopping: Callable[[], bool]) -> list[SceneScores] | None:
        """The scores of all scenes, in order, in all processes.

        ``None`` if ``stopping`` became true meanwhile in any process. Raises ``UserError``, in all
        processes, if a scene could not be measured in one of them.
        """
        accelerator = self._accelerator
        predictor = Predictor(model, accelerator.device.type, self._precision)
        mine = range(accelerator.process_index, len(self.scenes), accelerator.num_processes)

        def check() -> None:
            if stopping():
                raise _StoppedError

        part: dict[int, SceneScores] | str | None
        try:
            measured = evaluate(
                predictor_upscale(predictor, check),
                self.scenes,
                ("self", "unrelated"),
                numbers=mine,
                keep=PICTURES,
                degradations=self._degradations,
            )
            part = dict(zip(mine, measured, strict=True))
        except _StoppedError:
            part = None
        except UserError as error:
            part = str(error)
        rows: dict[int, SceneScores] = {}
        for found in gather_object([part]):
            if found is None:
                return None
            if isinstance(found, str):
                raise UserError(found)
            rows |= found
        return [rows[number] for number in sorted(rows)]


def log_line(rows: Sequence[SceneScores]) -> dict[str, float]:
    """The means over scenes by the names that they have in the log; PSNR in dB."""
    means = mean_scores(rows)
    return {
        "val_ref": means["masa"].psnr,
        "val_self": means["self"].psnr,
        "val_unrelated": means["unrelated"].psnr,
        "bicubic": means["bicubic"].psnr,
        "val_ssim": means["masa"].ssim,
    }
