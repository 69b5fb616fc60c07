"""Recipes of the shipped assets: each module trains one asset from scratch. Run by `jobs/build_assets.py`.

detector: a YOLO object detector.
ocr: the text detection and recognition models that PaddleOCR loads.
calibrate: calibrates the detector and the OCR models on fresh scenes.
vlm: pre-trains the tiny VLM (Qwen2.5-VL architecture), which starts as policy and as reward model.
extractor: trains the tiny claim extractor (Qwen3 architecture).
training: optimizers, learning-rate schedule and training state of the two language models.
quality: measures the assets for their model cards.
"""
