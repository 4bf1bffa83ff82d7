"""Which of several distilled corpora suits a student: the paper's finding as a rule that knows its limits."""

from __future__ import annotations

from .paper_students import LATER_STUDENTS, STUDENTS, TEACHERS, PaperStudent, Student, place_student
from .rule import CONFIDENCES, Candidate, Proxies, Ranked, Recommendation, recommend


__all__ = [
    "CONFIDENCES",
    "LATER_STUDENTS",
    "STUDENTS",
    "TEACHERS",
    "Candidate",
    "PaperStudent",
    "Proxies",
    "Ranked",
    "Recommendation",
    "Student",
    "place_student",
    "recommend",
]
