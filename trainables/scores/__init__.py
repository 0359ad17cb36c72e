"""Official scores of the challenges that block-by-block matching is measured on, in the challenges' own definitions.

`physionet2019` scores hourly predictions of sepsis, `physionet2021` scores diagnoses of electrocardiograms, both from
arrays; `files` reads the challenges' own files and pairs labels with predictions. Scores are fractions, not per cent,
as the challenges print them. No torch here, and scikit-learn is imported when an area under a curve is asked for.
"""
