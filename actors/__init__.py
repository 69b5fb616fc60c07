"""Ray actors of a run, and one adapter module for each inference library.

    fleet                 starts, loads and stops the long-lived actors of a run
    engine_hosts          actors with one inference engine each: policy generator, critique writer, claim extractor
    examination           finds the requests on which an engine's process ends
    experts               Ray Data actors with a vision expert each: object detector, OCR reader
    progress_board        actor that collects the progress of the stages
    engine_batches        batches of requests on the engines of a role, outside the Ray Data graph
    local                 vision experts and claim extractor in the calling process, without Ray
    vllm_engine           adapter for vLLM
    yolo                  adapter for ultralytics detectors
    zero_shot             adapter for open-vocabulary detectors of transformers (OWLv2, GroundingDINO)
    paddle_ocr            adapter for PaddleOCR

CONTRIBUTING.md lists the steps for adding an inference engine, an object detector or an OCR library.
"""
