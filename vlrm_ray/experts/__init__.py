"""Vision experts: what they detect in an image, how reliable that is, and the verdicts on claims that follow.

From images to evidence:

vision_experts     detector and OCR reader combined: images in, `Evidence` out
detection          detector boxes -> merged objects with colors, and image quality measures
colors             colors of photographed objects, and the words for them
evidence           colors of boxes, and the text form of the evidence: a prefix of critiques, or a hint in the prompt
geometry           overlap of boxes and spatial relations between them
named_models       models that the experts' libraries know by name, and where a node keeps them
fingerprints       hash of an expert's model and settings: cache key and calibration check
failing_images     images on which an expert fails, by an exception or because its process ends
attempts           images on which the process of an actor ends, given up after a few attempts

From claims and evidence to verdicts:

verifier           claim + evidence -> verdict (start reading here)
measured_judge     verdicts by tables: how often such claims were true
strengths          strength of the evidence for a claim, which the tables are looked up with
text_matching      strength of the evidence for a text: how well its words match those that were read
hierarchy          nouns and the detector's classes: a poodle is a dog
statement_verdict  verdict on a statement from those on its claims, for reports
reliability        verdicts by bounds: which detections are certain, lower and upper bounds of object counts

How good an expert is:

calibration        measured accuracy of an expert, stored in a JSON file beside its model
claim_tables       its tables of how often a claim is true at a strength of evidence
score_calibration  a measured proportion with its bound, and accuracy by score
measurement        measures an expert on images whose content is known
claim_measurement  measures the tables of claims
labelled_images    the labelled images that an expert is measured on
"""
