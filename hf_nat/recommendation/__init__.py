"""Which of several distilled corpora suits a student: the paper's finding as a rule that knows its limits."""

from __future__ import annotations

from .paper_students import STUDENTS, TEACHERS, PaperStudent, Student, place_student
from .rule import CONFIDENCES, Candidate, Proxies, Ranked, Recommendation, recommend


__all__ = [
    "CONFIDENCES",
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
