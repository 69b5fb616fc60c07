"""Vision experts: what they detect in an image, how reliable that is, and the verdicts on claims that follow.

vision_experts   detector and OCR reader combined: images in, `Evidence` out
detection        detector boxes -> merged objects with colors, and image quality measures
evidence         colors of boxes, and the text form of the evidence: a prefix of critiques in the format `compact`, a hint
                 in the prompt in `detailed`
geometry         overlap of boxes and spatial relations between them
calibration      measured accuracy of an expert, stored in a JSON file beside its model
fingerprints     hash of an expert's model and settings: cache key and calibration check
reliability      which detections are certain, and lower and upper bounds of object counts
verifier         claim + evidence -> verdict (start reading here)
"""
