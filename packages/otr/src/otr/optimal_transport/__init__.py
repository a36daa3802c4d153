"""Transport between episodes and demonstrations: costs, back ends, and the choice among these."""
