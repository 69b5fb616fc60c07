"""Trains the two small networks of the OCR: text detection and text recognition.

Both are convolutional networks, trained in torch and exported to ONNX. The `inference.yml` beside each tells PaddleOCR
how to prepare the input and how to decode the output.
"""

import math
import random
import string
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import nn
from torch.nn import functional as F

from vlrm_ray.scenes.render import FACES, SIZE, font, paint
from vlrm_ray.scenes.world import SIGN, WORDS, World

LETTERS = string.ascii_uppercase
DETECTION_NAME, RECOGNITION_NAME = "PP-OCRv5_mobile_det", "en_PP-OCRv5_mobile_rec"  # PaddleOCR accepts only known names
DETECTION_SIDE = 256
RECOGNITION_HEIGHT, RECOGNITION_WIDTH = 32, 160
SIGNS = World(bias=0.0, held_out=0.1, sign=0.85)
DETECTION_SEED, RECOGNITION_SEED = 12_000_000, 13_000_000
_MEAN, _STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_SIGN_MARGIN = 3.5  # white margin around a sign's word, in pixels

Pixels = NDArray[np.uint8]


def _conv(
    inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, stride: int | tuple[int, int] = 1
) -> nn.Sequential:
    pad = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class TextDetector(nn.Module):
    """Text detection network in the manner of DB (Liao et al. 2020), which predicts a map of shrunk text regions."""

    def __init__(self) -> None:
        super().__init__()
        self.by2, self.by4 = _conv(3, 12, 3, 2), _conv(12, 24, 3, 2)
        self.by8 = nn.Sequential(_conv(24, 40, 3, 2), _conv(40, 40))
        self.by16 = nn.Sequential(_conv(40, 64, 3, 2), _conv(64, 64))
        self.from16, self.from8, self.from4 = _conv(64, 24, 1), _conv(40, 24, 1), _conv(24, 24, 1)
        self.merge, self.join, self.out = _conv(24, 16), _conv(28, 12), nn.Conv2d(12, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the text map.

        Args:
            x: normalized images of shape (n, 3, h, w); h and w are multiples of 16.

        Returns:
            Logits of shape (n, 1, h/2, w/2) in training mode. In evaluation mode probabilities of shape (n, 1, h, w),
            as DB post-processing expects.
        """
        half = self.by2(x)
        quarter = self.by4(half)
        eighth = self.by8(quarter)
        y = _double(self.from16(self.by16(eighth))) + self.from8(eighth)
        y = _double(self.merge(_double(y) + self.from4(quarter)))
        y = self.out(self.join(torch.cat([y, half], 1)))
        return y if self.training else _double(torch.sigmoid(y))


class TextRecognizer(nn.Module):
    """Text recognition network for CTC; the classes are blank, the letters, and the space that PaddleOCR appends."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, 16, 3, 2), _conv(16, 32, 3, 2), _conv(32, 48), _conv(48, 64, 3, (2, 1)),
            _conv(64, 96, 3, (2, 1)), _conv(96, 96),
        )  # fmt: skip
        self.context = nn.Sequential(_conv(192, 96, (1, 5)), _conv(96, 96, (1, 5)))
        self.classes = nn.Linear(96, len(LETTERS) + 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the letters.

        Args:
            x: normalized crops of shape (n, 3, 32, w).

        Returns:
            CTC logits of shape (n, ceil(w/4), classes) in training mode, probabilities in evaluation mode.
        """
        f = self.body(x)
        f = self.context(torch.cat([f[:, :, 0:1], f[:, :, 1:2]], 1)).squeeze(2).transpose(1, 2)
        logits = self.classes(f)
        return logits if self.training else F.softmax(logits, -1)


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def build(out: Path, *, detection_steps: int = 500, recognition_steps: int = 3000, seed: int = 0) -> dict[str, float]:
    """Train both networks and write `detection/` and `recognition/`; returns their final losses."""
    torch.manual_seed(seed)
    detection, detection_loss = _train_detection(detection_steps)
    recognition, recognition_loss = _train_recognition(recognition_steps)
    _export(detection, torch.zeros(1, 3, DETECTION_SIDE, DETECTION_SIDE), {0: "n", 2: "h", 3: "w"}, {0: "n", 2: "h", 3: "w"}, out / "detection", _detection_settings())  # fmt: skip
    _export(recognition, torch.zeros(2, 3, RECOGNITION_HEIGHT, RECOGNITION_WIDTH), {0: "n", 3: "w"}, {0: "n", 1: "t"}, out / "recognition", _recognition_settings())  # fmt: skip
    return {"detection_loss": round(detection_loss, 4), "recognition_loss": round(recognition_loss, 4)}


def _optimizer(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-4)


def _set_memory_format(net: nn.Module, memory: torch.memory_format) -> None:
    """Set the memory format of the convolutions' weights; channels last trains twice as fast on a CPU."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory)


def _set_rate(opt: torch.optim.Optimizer, step: int, steps: int) -> None:
    for group in opt.param_groups:
        group["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.005)


def _train_detection(steps: int) -> tuple[nn.Module, float]:
    """Train with cross-entropy on text and the hardest background pixels, plus Dice loss."""
    net = TextDetector()
    _set_memory_format(net, torch.channels_last)
    opt = _optimizer(net)
    loss = torch.zeros(())
    for step in range(steps):
        _set_rate(opt, step, steps)
        x, y = _detection_batch(step, 8)
        logits = net(x)[:, 0]
        losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
        text = y > 0.5
        hard = losses[~text].topk(max(3 * int(text.sum()), 2000)).values
        p = torch.sigmoid(logits)
        dice = 1 - (2 * (p * y).sum() + 1) / ((p * p).sum() + (y * y).sum() + 1)
        loss = torch.cat([losses[text], hard]).mean() + dice
        opt.zero_grad()
        loss.backward()
        opt.step()
        _log("detection", step, steps, loss)
    return net.eval(), loss.item()


def _detection_batch(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (size, 3, 256, 256) and their target maps (size, 128, 128), which are 1 in shrunk text regions."""
    images = np.empty((size, DETECTION_SIDE, DETECTION_SIDE, 3), np.float32)
    maps = np.zeros((size, DETECTION_SIDE // 2, DETECTION_SIDE // 2), np.float32)
    scale = DETECTION_SIDE / SIZE
    for index in range(size):
        scene = SIGNS.sample(DETECTION_SEED + step * size + index)
        rendered = paint(scene)
        bgr = np.asarray(rendered.image)[:, :, ::-1]
        images[index] = cv2.resize(bgr, (DETECTION_SIDE, DETECTION_SIDE))
        for obj, box in zip(scene.objects, rendered.boxes, strict=True):
            if obj.shape != SIGN:
                continue
            x0, y0, x1, y1 = (v * scale for v in box)
            margin = _SIGN_MARGIN * scale
            x0, y0, x1, y1 = x0 + margin, y0 + margin, x1 - margin, y1 - margin
            width, height = x1 - x0, y1 - y0
            shrink = width * height * (1 - 0.4**2) / (2 * (width + height))  # shrink offset of DB with ratio 0.4
            rows = slice(round((y0 + shrink) / 2), round((y1 - shrink) / 2) + 1)
            maps[index, rows, round((x0 + shrink) / 2) : round((x1 - shrink) / 2) + 1] = 1
    x = ((images / 255 - _MEAN) / _STD).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x)).to(memory_format=torch.channels_last), torch.from_numpy(maps)


def _train_recognition(steps: int) -> tuple[nn.Module, float]:
    net = TextRecognizer()
    _set_memory_format(net, torch.channels_last)
    opt = _optimizer(net)
    running = 0.0
    for step in range(steps):
        _set_rate(opt, step, steps)
        x, words, widths = _recognition_batch(step, 32)
        log_p = F.log_softmax(net(x), -1).transpose(0, 1)
        targets = torch.tensor([LETTERS.index(c) + 1 for w in words for c in w])
        lengths = torch.tensor([len(w) for w in words])
        # CTC over the crop's own width only, and blanks in the padding: without this the network learns to
        # predict the last letter in the padding
        used = torch.tensor([math.ceil(w / 4) for w in widths])
        padding = torch.arange(log_p.shape[0])[:, None] >= used[None, :]
        loss = F.ctc_loss(log_p, targets, used, lengths, blank=0, zero_infinity=True)
        loss = loss - log_p[..., 0][padding].mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        running = 0.98 * running + 0.02 * loss.item()
        _log("recognition", step, steps, loss)
    return net.eval(), running


def _recognition_batch(step: int, size: int) -> tuple[torch.Tensor, list[str], list[int]]:
    """Crops (size, 3, 32, 160), their words, and the width in pixels of each crop without padding."""
    crops = np.zeros((size, RECOGNITION_HEIGHT, RECOGNITION_WIDTH, 3), np.float32)
    words: list[str] = []
    widths: list[int] = []
    for index in range(size):
        crop, word = _crop(random.Random(f"{RECOGNITION_SEED}-{step * size + index}"))
        height, width = crop.shape[:2]
        used = min(RECOGNITION_WIDTH, math.ceil(RECOGNITION_HEIGHT * width / height))
        crops[index, :, :used] = cv2.resize(crop, (used, RECOGNITION_HEIGHT)).astype(np.float32) / 127.5 - 1
        words.append(word)
        widths.append(used)
    x = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
    return x.to(memory_format=torch.channels_last), words, widths


def _crop(rng: random.Random) -> tuple[Pixels, str]:
    """A random word as a text detector crops it, with uneven margins, frame, blur and noise; BGR uint8 (h, w, 3)."""
    letters = "".join(rng.choices(LETTERS, k=rng.randint(1, 6)))
    word = rng.choice(WORDS) if rng.random() < 0.35 else letters
    face = font(rng.choice(FACES), rng.choice((24, 26, 26, 28, 28, 30)))
    left, top, right, bottom = face.getbbox(word)
    paper = (252, 252, 252) if rng.random() < 0.7 else tuple(rng.randint(150, 255) for _ in range(3))
    ink = tuple(rng.randint(0, 110) for _ in range(3))
    margins = [rng.uniform(-0.5, 9.0) for _ in range(4)]
    width, height = right - left + margins[0] + margins[2], bottom - top + margins[1] + margins[3]
    image = Image.new("RGB", (max(8, round(width)), max(8, round(height))), paper)
    draw = ImageDraw.Draw(image)
    draw.text((margins[0] - left, margins[1] - top), word, fill=ink, font=face)
    if rng.random() < 0.25:
        draw.rectangle([0, 0, image.width - 1, image.height - 1], outline=(60, 60, 60), width=rng.randint(1, 2))
    image = image.resize((max(4, image.width // 2), max(4, image.height // 2)), Image.Resampling.BOX)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.5)))
    pixels = np.asarray(image, np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal((*pixels.shape[:2], 1), np.float32)
    pixels = (pixels + noise * rng.choice((0.0, 3.0, 7.0))).clip(0, 255)
    return np.ascontiguousarray(pixels[:, :, ::-1]).astype(np.uint8), word


def _log(name: str, step: int, steps: int, loss: torch.Tensor) -> None:
    if step % 100 == 99:
        print(f"{time.strftime('%H:%M:%S')} {name}: step {step + 1} of {steps}, loss {loss.item():.4f}", flush=True)


def _export(
    net: nn.Module,
    example: torch.Tensor,
    ins: dict[int, str],
    outs: dict[int, str],
    out: Path,
    settings: dict[str, object],
) -> None:
    """Write `inference.onnx`, with dynamic axes `ins` and `outs`, and `inference.yml`."""
    out.mkdir(parents=True, exist_ok=True)
    _set_memory_format(net, torch.contiguous_format)
    torch.onnx.export(
        net, (example,), str(out / "inference.onnx"),
        input_names=["x"], output_names=["y"], dynamic_axes={"x": ins, "y": outs},
        opset_version=17, dynamo=False,
    )  # fmt: skip
    (out / "inference.yml").write_text(yaml.safe_dump(settings, sort_keys=False))


def _detection_settings() -> dict[str, object]:
    normalize = {"mean": _MEAN.tolist(), "std": _STD.tolist(), "order": "hwc", "scale": "1./255."}
    return {
        "Global": {"model_name": DETECTION_NAME},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"DetResizeForTest": {"limit_side_len": DETECTION_SIDE, "limit_type": "min"}},
                {"NormalizeImage": normalize},
                {"ToCHWImage": None},
                {"KeepKeys": {"keep_keys": ["image", "shape"]}},
            ]
        },
        "PostProcess": {
            "name": "DBPostProcess",
            "thresh": 0.2,
            "box_thresh": 0.4,
            "max_candidates": 100,
            "unclip_ratio": 2.0,
        },
    }


def _recognition_settings() -> dict[str, object]:
    shape = {"image_shape": [3, RECOGNITION_HEIGHT, RECOGNITION_WIDTH]}
    return {
        "Global": {"model_name": RECOGNITION_NAME},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"RecResizeImg": shape},
                {"KeepKeys": {"keep_keys": ["image"]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": list(LETTERS)},
    }
