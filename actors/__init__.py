"""Ray actors of a run, and one adapter module for each inference library.

Actors, and what starts and calls them:

    fleet                 starts, loads and stops the long-lived actors of a run (start reading here)
    engine_actors         what the fleet's actors are started with, and how they are ended
    elastic_engines       engines that start while requests wait, and end when fewer are enough
    engine_directory      actor that tells the stages which engines there are at present
    engine_batches        batches of requests on the engines of a role, outside the Ray Data graph
    progress_board        actor that collects the progress of the stages
    experts               Ray Data actors with a vision expert each: object detector, OCR reader
    downloads             fetches experts' models that are given by name
    local                 vision experts and claim extractor in the calling process, without Ray

Inside the actor of an engine:

    engine_hosts          actors with one inference engine each: policy generator, critique writer, claim extractor
    serial_engine         the engines' interface for many calls at a time; an engine that answers one after the other
    continuous_engine     an engine that answers requests of many calls at the same time
    load_counter          counts what an engine does
    suspects              requests that an engine worked on when its process ended
    examination           finds the requests on which an engine's process ends

Adapters:

    vllm_async_engine     vLLM's `AsyncLLM`, for `continuous_engine`
    vllm_engine           vLLM's `LLM`, for `serial_engine`
    vllm_model            what both share
    start_locks           locks between the engines of a machine while they start
    yolo                  ultralytics detectors
    zero_shot             open-vocabulary detectors of transformers (OWLv2, GroundingDINO)
    paddle_ocr            PaddleOCR

CONTRIBUTING.md lists the steps for adding an inference engine, an object detector or an OCR library.
"""
