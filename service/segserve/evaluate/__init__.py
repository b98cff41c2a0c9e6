"""Scores of masks, or of a model, against ground truth: what `segserve evaluate` computes and reports.

folders of images and truths -> predictions of a model (or of files) -> scores -> table, JSON, HTML page

ground_truth         pairs the files of two folders, reads label maps
annotators           one truth of several annotators' masks, by STAPLE
model_runner         runs a model over the images: AIS, AMG, semantic, instances, or prompts
object_matching      one-to-one matching at IoU thresholds: mSA, precision, recall, F1 (as stardist)
overlap_scores       Dice, mean IoU, adjusted Rand index, from one contingency table
hausdorff            Hausdorff distances, with the 95th percentile
iterative_prompting  micro-sam's protocol: a point or a box, then corrective clicks
compare_models       several models on the same images: the table of Dice, IoU, Hausdorff, parameters, time
grid_search          the best thresholds of AIS or AMG
scores               all scores of an image, and of a data set
volume_protocol      the 24 settings of arXiv 2408.00756: objects followed through volumes
volume_files, volume_scores, volume_results, volume_tables   its pairs, scores, kept results and tables
track_scores         SEG, DET and TRA of tracks, by py-ctcmetrics
report_tables, html_page   what is printed; a page of the worst cases
"""
