"""A page that shows how models write: a student round by round, its teacher from left to right, both with a clock."""
