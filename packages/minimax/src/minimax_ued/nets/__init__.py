"""Networks of students and teachers, and what they are built of."""
