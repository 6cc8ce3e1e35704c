"""Detectors: a fixed number of boxes, and a map for each.

Design. ``ExplainableModel(network, task="detection", top_k=k)`` wraps the network into a ``DetectionNetwork``:

1. The row of ``DETECTORS`` that fits the network (or the user's ``candidates=`` function) says which *candidates* it
   has before it suppresses duplicates. Candidates have scores, boxes, labels and, where there is a pyramid, levels.
2. ``choose_boxes`` makes the choice of the network's own post-processing: threshold, suppression class by class,
   order. It has no gradient. It finds R = ``max_boxes`` boxes of each image.
3. What is explained of each box is one number with a gradient: the log-odds of its class (of a sigmoid, its logit),
   its objectness or a coordinate. Hence the rest of the library sees a network with R scores, whose ``class_idx`` is
   the rank of a box, and whose ``logits`` are the table of boxes ``(N, k, 8)``.
4. The inputs of the head pass through the modules ``levels.0`` and so on, which are the default target layers. The map
   of a box is that of its own level.

Names and shapes, for a batch of N images of H x W pixels:

====================  ====================================  ==========================================================
call                  argument or result                    shape and meaning
====================  ====================================  ==========================================================
``ExplainableModel``  ``task="detection"``                  the family is found by itself
..                    ``top_k=k``                           boxes of each image that are explained at once, 1 without
..                    ``candidates=``                       ``(network, image) -> (scores, boxes, labels)``: logits
                                                            ``(N, M)``, ``x1, y1, x2, y2`` in pixels ``(N, M, 4)``,
                                                            int64 ``(N, M)``
..                    ``score_threshold``, ``iou_threshold``  the network's own without them
..                    ``max_boxes=R``                       how many ranks can be asked for, k without it
..                    ``box_score=``                        ``"class"``, ``"objectness"``, ``"x1"`` ... ``"y2"``
..                    ``by_box=True``                       each call gives ``x1, y1, x2, y2`` ``(N, 4)``, or
                                                            ``(N, k, 4)`` with ``top_k``; the candidates that overlap
                                                            most are explained
..                    ``region=``                           ``"gaussian"`` or ``"box"``: weight maps by their box
``explainable(...)``  ``image``                             ``(N, C, H, W)``, as the network takes it
..                    ``class_idx``                         ``(N, k)`` int64 ranks; ``-1`` in column j: the j-th best
result                ``detections.boxes``                  ``(N, k, 4)``, ``x1, y1, x2, y2`` in pixels
..                    ``detections.scores``                 ``(N, k)``
..                    ``detections.labels``                 ``(N, k)`` int64, ``-1`` where there is no box
..                    ``detections.valid``                  ``(N, k)`` bool, whether there is a box of this rank
..                    ``cam``                               ``(N, k, H, W)``, zeros where there is no box
artifact              outputs                               ``boxes``, ``scores``, ``labels``, ``valid``, ``cam``
====================  ====================================  ==========================================================

``detections`` and ``cam`` always have the dimension k, of length one without ``top_k``.
"""
