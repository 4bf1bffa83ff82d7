"""The paper's studies of teachers, decoding strategies, experts and interpolation, and the paper's own numbers.

Source: Zhou, Gu & Neubig 2020; all numbers are of WMT14 en-de, newstest2014.
"""

from __future__ import annotations

from .matrix_report import StudyText


CAPACITY = StudyText(
    name="capacity",
    title="Students and the corpora of teachers of rising size",
    source="sections 4.2 and 4.4, Table 2, Figures 3, 4, 7 and 8",
    question="Which distilled corpus suits which student?",
    paper={
        "tiny": {"BLEU": 23.3},
        "small": {"BLEU": 25.6},
        "base": {"BLEU": 27.1},
        "big": {"BLEU": 28.2},
        "vanilla_nat": {"BLEU": 11.4, "pass": 1},
        "flowseq": {"BLEU": 18.6, "pass": 13},
        "iterative_nat": {"BLEU": 19.3, "pass": 1},
        "insertion_transformer": {"BLEU": 20.9, "pass": 1},
        "cmlm": {"BLEU": 23.5, "pass": 1},
        "levenshtein_transformer": {"BLEU": 25.2, "pass": 1},
        "levenshtein_transformer_big": {"BLEU": 26.5, "pass": 3},
    },
)
DECODING = StudyText(
    name="decoding",
    title="How the teacher decodes",
    source="section 4.3, Table 3",
    question="What do decoding strategies of one teacher do to the corpus and to a vanilla NAT student?",
    paper={
        "sampling": {"C(d)": 3.623, "F(d)": 3.354, "BLEU": 6.6},
        "top-k": {"C(d)": 2.411, "F(d)": 2.932, "BLEU": 14.6},
        "greedy": {"C(d)": 1.960, "F(d)": 2.959, "BLEU": 18.9},
        "beam": {"C(d)": 1.902, "F(d)": 2.948, "BLEU": 19.5},
    },
)
EXPERTS = StudyText(
    name="experts",
    title="Mixtures of experts",
    source="section 5.2, Figure 6",
    question="Does one expert of a mixture, the best on validation, make a simpler corpus? With 3 experts the paper's "
    "vanilla NAT gains 1.21 BLEU over the plain teacher's corpus; its figure gives no other numbers.",
)
INTERPOLATION = StudyText(
    name="interpolation",
    title="Sequence-level interpolation",
    source="section 5.3, Table 4",
    question="Does a strong student gain if of the 3 best outputs of the beam the one nearest to the real target is "
    "kept?",
    paper={
        "beam": {"C(d)": 1.902, "F(d)": 2.948, "BLEU": 26.94},
        "interpolation": {"C(d)": 1.908, "F(d)": 2.916, "BLEU": 27.32},
    },
)
