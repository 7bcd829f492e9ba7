"""Write `expected.json`: what Ultralytics detects in the images of the parity test.

Run where ultralytics is installed: ``python tests/parity/make_expected.py ASSETS`` (the folder with models/ and data/).
The table holds numbers only; the images are not ours to keep.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

CONFIDENCE = 0.25
TABLE = Path(__file__).with_name("expected.json")


def expected_rows(model: Any, image: Path) -> list[list[float]]:
    """Rows x1 y1 x2 y2 (pixels), confidence, class of one image."""
    (result,) = model.predict(image, conf=CONFIDENCE, device="cpu", verbose=False)
    boxes = zip(result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True)
    return [[*(round(side, 2) for side in xyxy), round(conf, 4), int(c)] for xyxy, conf, c in boxes]


def main(assets: Path) -> None:
    """Run the model over every image and write the table."""
    import ultralytics

    weights = assets / "models" / "yolo26n.onnx"
    model = ultralytics.YOLO(weights, task="detect")
    images = sorted((assets / "data" / "coco_val_a" / "images").iterdir())
    images += sorted((Path(ultralytics.__file__).parent / "assets").glob("*.jpg"))
    table = {
        "ultralytics": ultralytics.__version__,
        "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "confidence": CONFIDENCE,
        "images": {image.name: expected_rows(model, image) for image in images},
    }
    lines = json.dumps(table, separators=(",", ":")).replace('"images":{', '"images":{\n').replace("]],", "]],\n")
    TABLE.write_text(lines + "\n", "utf-8")
    sys.stdout.write(f"{len(images)} images, {sum(map(len, table['images'].values()))} rows\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
