"""The students of the paper and their best teachers, and the place of any other student among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


# The paper's teachers, their targets from simple to complex and faithful (section 4.2, Figure 3).
TEACHERS = ("tiny", "small", "base", "big")
# A student of one architecture has the size of the paper's where the parameters differ by no more than this share.
SAME_SIZE = 0.1


@dataclass(frozen=True)
class PaperStudent:
    """A student of the paper, and the teachers between which its best one lies.

    Args:
        model_type (`str`): its architecture.
        size (`str`): its size, a key of `hf_nat.models.SIZES`, or the published one of FlowSeq.
        num_parameters (`int`): parameters without embeddings, by `configs/wmt14`.
        real_bleu (`float`): test BLEU when trained on the real data, the paper's measure of capacity.
        simplest (`str`): the weakest teacher that may be the best for it.
        most_complex (`str`): the strongest such teacher.
        is_stated (`bool`): the paper says it of this student; otherwise the order of the students implies it.
        evidence (`str`): what the paper says, or what puts a later student among the paper's.
        methods (`tuple[str, ...]`): what it was trained with beside.
        whose (`str`): how the evidence calls it.
        table (`str`): where its BLEU stands.
    """

    model_type: str
    size: str
    num_parameters: int
    real_bleu: float
    simplest: str
    most_complex: str
    is_stated: bool
    evidence: str
    methods: tuple[str, ...] = ()
    whose: str = "the paper's"
    table: str = "Table 2"

    @property
    def place(self) -> tuple[float, float]:
        """Range of its best teacher from 0 (AT-tiny) to 1 (AT-big)."""
        low, high = (TEACHERS.index(teacher) / (len(TEACHERS) - 1) for teacher in (self.simplest, self.most_complex))
        return low, high


# Zhou, Gu & Neubig 2020 (arXiv:1911.02727): BLEU from Table 2 (WMT14 En-De), best teachers from sections 4.4 and 5.
# Figure 4, which has all of them, is a plot: what the text does not say is left open here.
STUDENTS = (
    PaperStudent("vanilla_nat", "base", 44_269_568, 11.4, "small", "small", True, "is best with AT-small's targets"),
    PaperStudent(
        *("flowseq", "published", 63_933_097, 18.6, "small", "small", True),
        "does better with AT-small's targets than with AT-base's",
    ),
    PaperStudent(
        *("iterative_nat", "base", 44_269_568, 19.3, "small", "big", False),
        "is stronger than FlowSeq and weaker than LevT, whose best teachers are AT-small and AT-big",
    ),
    PaperStudent(
        *("insertion_transformer", "base", 44_663_296, 20.9, "small", "big", False),
        "is stronger than FlowSeq and weaker than LevT, whose best teachers are AT-small and AT-big",
    ),
    PaperStudent(
        *("cmlm", "base", 44_269_568, 23.5, "base", "big", False),
        "is named among the stronger students, which can learn from targets closer to the real ones (section 5)",
    ),
    PaperStudent(
        *("levenshtein_transformer", "base", 44_401_664, 25.2, "big", "big", True), "is best with AT-big's targets"
    ),
    PaperStudent(
        *("levenshtein_transformer", "big", 176_883_712, 26.5, "big", "big", False),
        "is stronger than LevT, which is best with AT-big's targets",
    ),
)


# One-pass students that are younger than the paper: BLEU as published beside each other in the repository of the
# DA-Transformer (Huang et al. 2022), on the same test set. Their places are those of the paper's students around them.
# CMLMC's 26.4 is no row: it has parts that correction alone has not.
_PUBLISHED: Any = {"whose": "the published one", "table": "repository of Huang et al. 2022"}
LATER_STUDENTS = (
    PaperStudent(
        *("ctc_nat", "base", 44_138_496, 18.4, "small", "small", False),
        "is about as strong as the paper's FlowSeq (18.6), whose best teacher is AT-small",
        **_PUBLISHED,
    ),
    PaperStudent(
        *("vanilla_nat", "base", 44_269_568, 19.4, "small", "big", False),
        "is about as strong as the paper's iNAT (19.3), which is stronger than FlowSeq and weaker than LevT",
        methods=("glancing",),
        **_PUBLISHED,
    ),
    PaperStudent(
        *("vanilla_nat", "base", 44_269_568, 22.4, "small", "big", False),
        "is stronger than the paper's InsT (20.9) and weaker than its CMLM (23.5), best with AT-base's or AT-big's",
        methods=("order-agnostic cross-entropy",),
        **_PUBLISHED,
    ),
    PaperStudent(
        *("ctc_nat", "base", 44_138_496, 25.0, "base", "big", False),
        "is stronger than the paper's CMLM (23.5) and about as strong as its LevT (25.2), best with AT-big's targets",
        methods=("glancing",),
        **_PUBLISHED,
    ),
    PaperStudent(
        *("da_transformer", "base", 45_196_296, 26.6, "big", "big", False),
        "is as strong as the strongest of the paper's (26.5), and loses least of all on real targets",
        methods=("glancing",),
        **_PUBLISHED,
    ),
)


@dataclass(frozen=True)
class Student:
    """A student as the rule sees it.

    Args:
        name (`str`): what it is.
        place (`tuple[float, float]`, *optional*): range of its place from 0 (the simplest targets) to 1 (the most
            faithful ones); None if its capacity is unknown.
        is_stated (`bool`): the paper names that place.
        evidence (`str`): what the place rests on.
    """

    name: str
    place: tuple[float, float] | None
    is_stated: bool
    evidence: str


def place_student(model_type: str, num_parameters: int, methods: tuple[str, ...] = ()) -> Student:
    """Finds a student's place by its architecture and size.

    A student that is smaller than the known one of its architecture is taken to be weaker, so that its place is at
    most that one's, and a larger one to be stronger.

    Args:
        model_type (`str`): its architecture.
        num_parameters (`int`): its parameters, embeddings not counted.
        methods (`tuple[str, ...]`, *optional*): what it is trained with beside, by default nothing.

    Returns:
        `Student`: the place, a range where the paper leaves it open, and what that rests on.

    Source: Zhou, Gu & Neubig 2020, Table 2, sections 4.4 and 5; of later students [`LATER_STUDENTS`].
    """
    kind = f"{model_type} with {' and '.join(methods)}" if methods else model_type
    name = f"{kind} with {num_parameters / 1e6:.3g} M parameters without embeddings"
    rows = [row for row in (*STUDENTS, *LATER_STUDENTS) if (row.model_type, row.methods) == (model_type, methods)]
    if not rows:
        return Student(name, None, False, f"the paper has no student of type {kind}, so its capacity is unknown")
    for row in rows:
        if abs(num_parameters / row.num_parameters - 1) <= SAME_SIZE:
            evidence = f"{row.whose} of this size ({row.real_bleu} BLEU on real data, {row.table}) {row.evidence}"
            return Student(name, row.place, row.is_stated, evidence)
    smaller = [row for row in rows if row.num_parameters < num_parameters]
    larger = [row for row in rows if row.num_parameters > num_parameters]
    bounds = [
        f"{comparison} {row.whose} with {row.num_parameters / 1e6:.3g} M, which {row.evidence}"
        for comparison, rows_there in (("larger than", smaller[-1:]), ("smaller than", larger[:1]))
        for row in rows_there
    ]
    place = (max((row.place[0] for row in smaller), default=0.0), min((row.place[1] for row in larger), default=1.0))
    return Student(name, place, False, f"it is {' and '.join(bounds)}")
