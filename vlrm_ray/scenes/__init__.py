"""The embedded scenes: rendered images with full ground truth, small enough for a laptop.

Scenes and their images:
    world: the objects of a scene, and the distributions that scenes are sampled from.
    render: draws a scene; `images` stores the drawing as a PNG file.
    shifts: distribution shifts of images (noise, blur, overlap, ...) for testing the experts.
    ground_truth: a scene as `Evidence`, as error-free experts would report it.

Language:
    language: questions about a scene, each with a true and a false answer; `statement_claims` has their claims.
    corpus: conversations that the tiny VLM is pre-trained on.
    statements: true and false sentences about an image, for testing the experts; `hard_statements` has difficult ones.
    facts: parses the tiny VLM's description of a scene back into `Evidence`.

Evaluation:
    bench: ScenesBench, held-out preference pairs; `evaluation` computes the metrics on them.
    best_of_n, pope: best-of-n selection with the reward model, and a POPE benchmark made of scenes.
    verdict_quality, extractor_quality: accuracy of the experts' verdicts and of claim extractors.

A `Scene` is ground truth. It is used to build the assets and to evaluate. Training stages get only the image,
the question and the experts' evidence.
"""
