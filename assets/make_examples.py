"""Make the example pairs in assets/examples from the Debian package opencv-doc and scikit-image.

Every picture is cut and shrunk by fixed numbers, so a second run gives the same files.
The sources, their licences and what is done to each are listed in assets/README.md.
"""

import argparse
import importlib.util
import math
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
OPENCV = Path("/usr/share/doc/opencv-doc/examples/data")
Size = tuple[int, int]
Box = tuple[float, float, float, float]


def skimage_data() -> Path:
    """The data folder inside the installed scikit-image wheel, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("scikit-image is not installed: give its data folder with --skimage")
    return Path(spec.origin).parent / "data"


def middle(source: Size, size: Size) -> Box:
    """The largest box in the middle of ``source`` with the shape of ``size``."""
    scale = min(source[0] / size[0], source[1] / size[1])
    left, top = (source[0] - size[0] * scale) / 2, (source[1] - size[1] * scale) / 2
    return (left, top, left + size[0] * scale, top + size[1] * scale)


def fit(image: Image.Image, size: Size) -> Image.Image:
    """Cut to the shape of ``size`` around the middle, then shrink with an antialiased Lanczos."""
    return image.resize(size, Image.Resampling.LANCZOS, box=middle(image.size, size))


def tilt(image: Image.Image, size: Size, degrees: float, slant: float) -> Image.Image:
    """Turn the middle of ``image`` at its own scale and slant it by a little perspective."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    (w, h), (u, v) = image.size, (size[0] / 2, size[1] / 2)
    to_middle = np.array([[1, 0, -u], [0, 1, -v], [0, 0, 1]])
    turn = np.array([[c, -s, 0], [s, c, 0], [slant, 0, 1]])
    h_out_to_in = np.array([[1, 0, w / 2], [0, 1, h / 2], [0, 0, 1]]) @ turn @ to_middle
    coefficients = (h_out_to_in / h_out_to_in[2, 2]).ravel()[:8].tolist()
    return image.transform(
        size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )


def lamp_light(image: Image.Image) -> Image.Image:
    """Darken and warm a picture, as if a dim lamp lit it."""
    gains = (0.80, 0.58, 0.36)
    table = [round(255 * gain * (i / 255) ** 1.3) for gain in gains for i in range(256)]
    return image.point(table)


def disparity_for(path: Path, size: Size) -> np.ndarray:
    """True disparity at each pixel of the shrunk left photo, in its pixels; NaN where unknown."""
    with np.load(path) as data:
        full = data["arr_0"]
    left, top, right, _ = middle((full.shape[1], full.shape[0]), size)
    step = (right - left) / size[0]
    rows = (top + (np.arange(size[1]) + 0.5) * step).astype(int)
    columns = (left + (np.arange(size[0]) + 0.5) * step).astype(int)
    picked = full[np.ix_(rows, columns)] / step
    return np.where(np.isfinite(picked), picked, np.nan).astype(np.float16)


def save(image: Image.Image, path: Path) -> None:
    """Write pixels alone: comments and colour profiles of the source are dropped."""
    image.info.clear()
    if path.suffix == ".png":
        image.save(path, optimize=True)
    elif path.stem.endswith("_lr"):  # as the web sends it, with blocks and half as much colour
        image.save(path, quality=75, subsampling="4:2:0")
    else:
        image.save(path, quality=92, subsampling=0, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opencv", type=Path, default=OPENCV, help="data folder of opencv-doc")
    parser.add_argument("--skimage", type=Path, help="data folder of scikit-image")
    parser.add_argument("--out", type=Path, default=HERE / "examples")
    args = parser.parse_args()
    skimage: Path = args.skimage or skimage_data()
    args.out.mkdir(parents=True, exist_ok=True)

    def cv(name: str) -> Image.Image:
        return Image.open(args.opencv / name).convert("RGB")

    def sk(name: str) -> Image.Image:
        return Image.open(skimage / name).convert("RGB")

    moto, page = (512, 344), sk("page.png")
    whale = (36, 2, 548, 386)
    pictures = {
        "motorcycle_hr.jpg": fit(sk("motorcycle_left.png"), moto),
        "motorcycle_ref.jpg": fit(sk("motorcycle_right.png"), moto),
        "aloe_hr.jpg": fit(cv("aloeL.jpg"), (512, 440)),
        "aloe_ref.jpg": fit(cv("aloeR.jpg"), (512, 440)),
        "rubberwhale_lr.jpg": fit(cv("rubberwhale1.png").crop(whale), (128, 96)),
        "rubberwhale_hr.jpg": cv("rubberwhale1.png").crop(whale),
        "rubberwhale_ref.jpg": cv("rubberwhale2.png").crop(whale),
        "rubberwhale_lamp_ref.jpg": lamp_light(cv("rubberwhale2.png").crop(whale)),
        "leuven_hr.jpg": fit(cv("leuvenA.jpg"), (512, 384)),
        "leuven_ref.jpg": fit(cv("leuvenB.jpg"), (512, 384)),
        "graf_hr.jpg": fit(cv("graf1.png"), (480, 384)),
        "graf_ref.jpg": fit(cv("graf3.png"), (480, 384)),
        "box_hr.png": cv("box_in_scene.png"),
        "box_ref.png": fit(cv("box.png"), (192, 128)),
        "page_hr.png": page.crop((0, 0, 384, 184)),
        "page_ref.png": tilt(page, (368, 160), 2.5, 0.0001),
        "gravel_hr.jpg": sk("gravel.png").crop((0, 0, 512, 256)),
        "gravel_ref.jpg": sk("gravel.png").crop((0, 256, 512, 512)),
        "coffee_lr.jpg": fit(sk("coffee.png"), (120, 80)),
        "coffee_hr.jpg": fit(sk("coffee.png"), (480, 320)),
        "coffee_ref.jpg": tilt(sk("coffee.png"), (496, 304), 8, 0.0001),
        "rocket_hr.jpg": fit(sk("rocket.jpg"), (480, 320)),
        "rocket_ref.jpg": sk("rocket.jpg").rotate(180),
        "chelsea_hr.jpg": sk("chelsea.png").crop((1, 2, 449, 298)),
        "chelsea_ref.jpg": sk("coffee.png"),
        "astronaut_hr.jpg": sk("astronaut.png").crop((40, 0, 424, 384)),
        "astronaut_ref.jpg": sk("camera.png").crop((40, 40, 424, 424)),
    }
    for name, image in pictures.items():
        save(image, args.out / name)
    truth = disparity_for(skimage / "motorcycle_disp.npz", moto)
    np.savez_compressed(args.out / "motorcycle_disparity.npz", disparity=truth)


if __name__ == "__main__":
    main()
