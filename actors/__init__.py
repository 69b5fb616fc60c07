"""Ray actors of a run, and one adapter module for each inference library.

    fleet                 starts, loads and stops the long-lived actors of a run
    engine_hosts          actors with one inference engine each: policy generator, critique writer, claim extractor
    experts               Ray Data actors with a vision expert each: object detector, OCR reader
    progress_board        actor that collects the progress of the stages
    judge_pool            critique writers judging the items of a benchmark
    local                 vision experts and claim extractor in the calling process, without Ray
    vllm_engine           adapter for vLLM
    transformers_engine   adapter for generation with transformers
    yolo                  adapter for ultralytics detectors
    zero_shot             adapter for open-vocabulary detectors of transformers (OWLv2, GroundingDINO)
    paddle_ocr            adapter for PaddleOCR

To add an inference engine:
  1. Write `actors/<library>_engine.py` with a class that implements `vlrm_ray.engines.Engine`.
  2. Create it in `_start_engine` of `engine_hosts.py`.
  3. Add its name to `Engine.kind` in `vlrm_ray/config.py`.

To add an object detector:
  1. Write `actors/<library>.py` with a class that implements `actors.experts.DetectorAdapter`.
  2. Create it in `load_detector` of `experts.py`.
  3. If it opens checkpoint files with a new suffix, extend `is_checkpoint` in `vlrm_ray/config.py`.

To add another OCR reader:
  1. Write `actors/<library>.py` with the methods and attributes of `actors.paddle_ocr.Paddle`.
  2. Create it in `TextExpert` of `experts.py` and in `load_vision_experts` of `local.py`.
  3. Extend `reader_fingerprint` in `vlrm_ray/experts/fingerprints.py` by all settings that change its output.
"""
